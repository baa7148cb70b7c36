"""One server in depth: how its connections end, how late, and what is still there."""

from parts import (
    HANGING,
    HOSTS,
    SEEN,
    SERVER,
    SHARE,
    SLOW,
    WAIT,
    Board,
    bars,
    flags,
    heat,
    hosts,
    lines,
    number,
    query,
    rows,
    servers,
    words,
)


def ended(outcome, by=""):
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (increase(closewatch_connections_ended_total{{{SERVER}, {outcome}}}[$__range]))"


def spread(metric, more=""):
    return f"sum by (le) (increase({metric}_bucket{{{SERVER}{more}}}[$__rate_interval]))"


def quantile(q, metric, more=""):
    # Without observations a quantile is no number, and no line.
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{SERVER}{more}}}[$__rate_interval]))) >= 0"


def board():
    board = Board(
        "closewatch-server",
        "closewatch: one server",
        "One server in depth: how its connections end, how late it closes TCP, and which connections are still there.",
        [*hosts(), *servers(one=True)],
    )
    totals(board)
    board.add(
        flags(
            "Since when, and as which hosts see it?",
            "Whether the server is flagged as slow on each host. Red on one of many hosts: look at that host first.",
            f"max by (instance, role) (closewatch_server_slow{{{SERVER}}})",
            "{{instance}} ({{role}})",
            height=6,
        )
    )
    board.row("How late")
    board.add(
        heat(
            "How long does the server take from the second Close frame to its FIN?",
            "Connections by delay, where the server sent the first FIN or RST: measured. At once is right; milliseconds are "
            "the network.",
            spread("closewatch_close_to_fin_seconds", ', first_end="server"'),
            "blue",
        )
    )
    board.add(
        heat(
            "How long did clients wait in vain?",
            "Connections by the wait until the client sent FIN itself: a lower bound of the server's delay. Bands at 1, 2 "
            "or 10 s are the clients' timers; near 0 are clients that never wait, which proves nothing.",
            spread("closewatch_close_to_fin_seconds", ', first_end="client"'),
            "orange",
        )
    )
    board.add(
        lines(
            "Close to FIN",
            "Median and 90th percentile, measured (the server's FIN) and waited (the client's). Never one line over both: "
            "waits end where the client's patience does.",
            [
                query(quantile(q, "closewatch_close_to_fin_seconds", f', first_end="{end}"'), f"{word} p{round(100 * q)}")
                for end, word in (("server", "measured"), ("client", "waited"))
                for q in (0.5, 0.9)
            ],
            "s",
        )
    )
    board.add(
        lines(
            "Closing handshake",
            "From the first Close frame to the second, median and 90th percentile: how soon the other end answers. It is "
            "before what this product is about, and tells a busy application from a forgotten close.",
            [query(quantile(q, "closewatch_close_handshake_seconds"), f"p{round(100 * q)}") for q in (0.5, 0.9)],
            "s",
        )
    )
    board.row("How connections end")
    board.add(
        lines(
            "Outcomes over time",
            "Ended connections a second by outcome. slow_server, client_gave_up: late. unanswered_by_server: no Close frame "
            "in answer. server_early: TCP closed before the client's Close frame, which browsers report as 1006.",
            [
                query(
                    f"sum by (outcome) (rate(closewatch_connections_ended_total{{{SERVER}}}[$__rate_interval]))",
                    "{{outcome}}",
                )
            ],
            "cps",
            stacked=True,
        )
    )
    board.add(
        bars(
            "Outcomes in all",
            "How did the connections end in the time shown?",
            query(f"round({ended(SEEN, 'outcome')})", "{{outcome}}", instant=True),
            width=6,
        )
    )
    board.add(
        bars(
            "Codes",
            "First Close frames in the time shown, by sender and status code.",
            query(
                f"sum by (sender, code) (increase(closewatch_close_frames_total{{{SERVER}}}[$__range]))",
                "{{sender}} {{code}}",
                instant=True,
            ),
            width=6,
        )
    )
    board.row("What is still there")
    board.add(
        lines(
            "Live connections by phase",
            "awaiting_close_frame: one Close frame. awaiting_fin: both, and no FIN: these hang. half_closed: one side has "
            "ended, the socket is still there.",
            [query(f"sum by (phase) (closewatch_connections{{{SERVER}}})", "{{phase}}")],
            width=8,
            stacked=True,
        )
    )
    board.add(
        lines(
            "How old is what hangs?",
            "The longest wait for the FIN, and the longest time that a socket has been half closed.",
            [
                query(f"max(closewatch_awaiting_fin_oldest_seconds{{{SERVER}}})", "awaiting FIN"),
                query(f"max(closewatch_half_closed_oldest_seconds{{{SERVER}}})", "half closed"),
            ],
            "s",
            width=8,
        )
    )
    board.add(
        lines(
            "TIME_WAIT by holder",
            "Ended connections a second by the end that sent FIN first. The server's is right, the client's is the price of "
            "a late server, or of a client that does not wait.",
            [
                query(
                    f"sum by (holder) (rate(closewatch_time_wait_entered_total{{{SERVER}}}[$__rate_interval]))",
                    "{{holder}}",
                )
            ],
            "cps",
            width=8,
            stacked=True,
        )
    )
    board.add(
        lines(
            "TIME_WAIT now",
            "Sockets in TIME_WAIT in the watched hosts' kernels, by what the host plays.",
            [query(f"sum by (instance, role) (closewatch_time_wait_sockets{{{SERVER}}})", "{{role}} on {{instance}}")],
            width=8,
        )
    )
    board.add(by_host())
    return board


def totals(board):
    board.add(
        number(
            "Flag",
            "Is the server flagged as slow now, on any host?",
            f"max(closewatch_server_slow{{{SERVER}}})",
            steps=[(None, "green"), (1, "red")],
            mappings=[words({"0": ("not slow", "green"), "1": ("SLOW", "red")})],
        )
    )
    board.add(
        number(
            "Late closes",
            "Which share of the connections that ended in the time shown did the server close late, or never?",
            f"{ended(SLOW)} / ({ended(SEEN)} > 0) or vector(0)",
            "percentunit",
            SHARE,
            decimals=1,
        )
    )
    board.add(number("Ended", "On how many ended connections does this rest?", f"round({ended(SEEN)})", decimals=0))
    board.add(
        number(
            "Hanging now",
            "How many connections have both Close frames and no FIN?",
            f'sum(closewatch_connections{{{SERVER}, phase="awaiting_fin"}})',
            steps=HANGING,
        )
    )
    board.add(
        number(
            "Longest wait now",
            "For how long has the connection hung that has hung for longest?",
            f"max(closewatch_awaiting_fin_oldest_seconds{{{SERVER}}})",
            "s",
            WAIT,
        )
    )
    board.add(
        number(
            "Opened",
            "How many connections were opened in the time shown?",
            f"round(sum(increase(closewatch_connections_opened_total{{{SERVER}}}[$__range])))",
            decimals=0,
        )
    )


def by_host():
    by = "instance, role"
    info = f'closewatch_server_info{{{HOSTS}, server="$server"}}'
    return rows(
        "Which hosts see it, and what do they call it?",
        "A line for each watched host and role. Host and software are what the openings of the host's own clients said.",
        [
            ("Slow", f"max by ({by}) (closewatch_server_slow{{{SERVER}}})", None, [(None, "green"), (1, "red")]),
            ("Late", f"{ended(SLOW, by)} / ({ended(SEEN, by)} > 0)", "percentunit", SHARE),
            ("Ended", f"round({ended(SEEN, by)})", "short", None),
            (
                "Known",
                f'label_replace(max by (instance, host, software) ({info}), "role", "client", "", "")',
                None,
                None,
            ),
        ],
        ["instance", "role", "host", "software"],
        "Late",
        width=16,
        height=8,
    )
