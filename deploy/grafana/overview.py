"""Which servers do not close TCP when the WebSocket is closed: how bad, since when, and who pays."""

from parts import (
    ANY_IS_BAD,
    HANGING,
    SEEN,
    SERVERS,
    SHARE,
    SLOW,
    WAIT,
    Board,
    bars,
    flags,
    hosts,
    lines,
    number,
    query,
    rows,
    servers,
)

ONE_SERVER = "/d/closewatch-server?${datasource:queryparam}&${job:queryparam}&var-role=${__data.fields.role}&var-server=${__data.fields.server}&${__url_time_range}"

FLAG = f"max by (role, server) (closewatch_server_slow{{{SERVERS}}})"
LAST_WELL = f"max_over_time(timestamp({FLAG} == 0)[$__range:$__rate_interval])"
FIRST_SLOW = f"min_over_time(timestamp({FLAG} == 1)[$__range:$__rate_interval])"


def ended(outcome, window, by="role, server"):
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (increase(closewatch_connections_ended_total{{{SERVERS}, {outcome}}}[{window}]))"


def share(window, by="role, server"):
    return f"{ended(SLOW, window, by)} / ({ended(SEEN, window, by)} > 0)"


def board():
    board = Board(
        "closewatch-overview",
        "closewatch: servers",
        "Which WebSocket servers do not close TCP when the WebSocket is closed, how late they are, and who pays for it.",
        [*hosts(), *servers()],
    )
    totals(board)
    board.row("Servers")
    board.add(table())
    board.add(
        flags(
            "When were servers slow?",
            "One band for each server that was flagged at any time shown: 3 or more connections ended within 5 minutes "
            "and a tenth of them late, or one that has hung for longer than 10 s.",
            f"{FLAG} and on (role, server) max by (role, server) (max_over_time(closewatch_server_slow{{{SERVERS}}}[$__range])) == 1",
            "{{server}} ({{role}})",
        )
    )
    board.row("How bad")
    board.add(
        lines(
            "Which servers close late most often?",
            "Share of late closes among the connections that ended: the 10 highest. From 0.1 on the server is flagged, if "
            "3 or more ended.",
            [query(f"topk(10, {share('$__rate_interval')})", "{{server}} ({{role}})")],
            "percentunit",
            steps=[(None, "green"), (0.1, "red")],
        )
    )
    board.add(
        lines(
            "How do connections end?",
            "Ended connections a second by outcome, all servers. clean: the server closed TCP at once. slow_server, "
            "client_gave_up: it did not. client_early: the client did not wait, which proves nothing.",
            [
                query(
                    f"sum by (outcome) (rate(closewatch_connections_ended_total{{{SERVERS}}}[$__rate_interval]))",
                    "{{outcome}}",
                )
            ],
            "cps",
            stacked=True,
        )
    )
    board.add(
        lines(
            "Where do connections hang?",
            "Connections with both Close frames and no FIN, of the 10 servers with most.",
            [
                query(
                    f'topk(10, sum by (role, server) (closewatch_connections{{{SERVERS}, phase="awaiting_fin"}}))',
                    "{{server}} ({{role}})",
                )
            ],
        )
    )
    board.add(
        lines(
            "For how long do they hang?",
            "The longest wait for a server's FIN that goes on, of the 10 servers with the longest. A ramp is a client "
            "without a timer; a plateau at 1, 2 or 10 s is the clients' timer.",
            [
                query(
                    f"topk(10, max by (role, server) (closewatch_awaiting_fin_oldest_seconds{{{SERVERS}}}))",
                    "{{server}} ({{role}})",
                )
            ],
            "s",
        )
    )
    board.row("Who pays")
    board.add(
        lines(
            "Who takes TIME_WAIT?",
            "Ended connections a second by the end that sent FIN first and so holds TIME_WAIT. The server's is as RFC 6455 "
            "wants it; the client's blocks a port of the client for 60 s.",
            [
                query(
                    f"sum by (holder) (rate(closewatch_time_wait_entered_total{{{SERVERS}}}[$__rate_interval]))",
                    "{{holder}}",
                )
            ],
            "cps",
            stacked=True,
        )
    )
    board.add(
        lines(
            "Towards which servers do clients of these hosts hold TIME_WAIT?",
            "Sockets in TIME_WAIT now, of the clients on the watched hosts: the 10 servers with most. Linux has 28,232 "
            "ports towards each by default.",
            [
                query(
                    'topk(10, sum by (instance, server) (closewatch_time_wait_sockets{job=~"$job", instance=~"$instance", '
                    'role="client", server=~"$server"}))',
                    "{{server}} from {{instance}}",
                )
            ],
        )
    )
    board.add(
        lines(
            "Where do server sockets leak?",
            "Connections of the watched hosts' servers of which one side has ended and whose socket is still there, of the "
            "10 servers with most. A number that only grows is a CLOSE_WAIT leak.",
            [
                query(
                    'topk(10, sum by (instance, server) (closewatch_connections{job=~"$job", instance=~"$instance", '
                    'role="server", server=~"$server", phase="half_closed"}))',
                    "{{server}} on {{instance}}",
                )
            ],
        )
    )
    board.add(
        bars(
            "With which codes are connections closed?",
            "First Close frames in the time shown, by sender and status code. 1000 and 1001 are normal; none: a frame "
            "without a code.",
            query(
                f"sum by (sender, code) (increase(closewatch_close_frames_total{{{SERVERS}}}[$__range]))",
                "{{sender}} {{code}}",
                instant=True,
            ),
            width=12,
        )
    )
    return board


def totals(board):
    board.add(
        number(
            "Slow servers",
            "How many servers are flagged as slow now? Over loopback a server counts once.",
            f"sum(max by (server) (closewatch_server_slow{{{SERVERS}}}))",
            steps=ANY_IS_BAD,
        )
    )
    board.add(
        number(
            "Late closes",
            "Which share of the connections that ended in the time shown did the server close late, or never?",
            f"{share('$__range', '')} or vector(0)",
            "percentunit",
            SHARE,
            decimals=1,
        )
    )
    board.add(
        number(
            "Hanging now",
            "How many connections have both Close frames and no FIN? A few for milliseconds are normal.",
            f'sum(closewatch_connections{{{SERVERS}, phase="awaiting_fin"}})',
            steps=HANGING,
        )
    )
    board.add(
        number(
            "Longest wait now",
            "For how long has the connection hung that has hung for longest?",
            f"max(closewatch_awaiting_fin_oldest_seconds{{{SERVERS}}})",
            "s",
            WAIT,
        )
    )
    board.add(
        number(
            "Ended",
            "On how many ended connections does this rest? Over loopback a connection counts in each role.",
            ended(SEEN, "$__range", ""),
            decimals=0,
        )
    )
    board.add(
        number(
            "Alerts",
            "How many of closewatch's alerts fire now? The runbook in the README says what to do.",
            'count(ALERTS{alertname=~"Closewatch.+", alertstate="firing"}) or vector(0)',
            steps=ANY_IS_BAD,
        )
    )


def table():
    closes = f'closewatch_close_to_fin_seconds_bucket{{{SERVERS}, first_end="%s"}}'

    def p90(first_end):
        return f"histogram_quantile(0.9, sum by (role, server, le) (increase({closes % first_end}[$__range]))) >= 0"

    return rows(
        "Which servers are slow, how late, and since when?",
        "The time shown, a line for each server and role; the flag and what hangs are of now. Measured: close to FIN where "
        "the server sent it. Waited: where the client did, a lower bound of the server's delay. Slow since: as far back as "
        "the time shown reaches. A click on a server shows it in depth.",
        [
            ("Slow", FLAG, None, [(None, "green"), (1, "red")]),
            (
                "Slow since",
                f"(1000 * {LAST_WELL} or 1000 * {FIRST_SLOW}) and on (role, server) {FLAG} == 1",
                "dateTimeFromNow",
                None,
            ),
            ("Late", share("$__range"), "percentunit", SHARE),
            ("Ended", f"round({ended(SEEN, '$__range')})", "short", None),
            ("Measured p90", p90("server"), "s", WAIT),
            ("Waited p90", p90("client"), "s", WAIT),
            (
                "Hanging",
                f'sum by (role, server) (closewatch_connections{{{SERVERS}, phase="awaiting_fin"}})',
                "short",
                None,
            ),
            ("Longest", f"max by (role, server) (closewatch_awaiting_fin_oldest_seconds{{{SERVERS}}})", "s", WAIT),
            ("Hosts", f"count by (role, server) (closewatch_connections_opened_total{{{SERVERS}}})", "short", None),
        ],
        ["server", "role"],
        "Late",
        height=11,
        link=("server", "This server in depth", ONE_SERVER),
    )
