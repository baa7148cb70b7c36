"""Does closewatch see everything, and what does it cost? Every loss has a panel, and 0 is a line too."""

from parts import ANY_IS_BAD, HOSTS, SHARE, Board, hosts, lines, number, query


def raised(metric, by, more=""):
    """What a counter gained in the time shown."""
    return f"sum by ({by}) (increase({metric}{{{HOSTS}{more}}}[$__rate_interval]))"


def gained(metric, more=""):
    return f"sum(increase({metric}{{{HOSTS}{more}}}[$__range]))"


def board():
    board = Board(
        "closewatch-daemon",
        "closewatch: the daemon",
        "Whether closewatch runs, sees everything and tells it, and what it costs.",
        hosts(),
    )
    totals(board)
    board.row("Does it run?")
    board.add(
        lines(
            "Which hosts answer?",
            "1 while Prometheus can read the daemon's metrics.",
            [query(f"min by (instance) (up{{{HOSTS}}})", "{{instance}}")],
            width=8,
        ).max(1)
    )
    board.add(
        lines(
            "Which probes are attached?",
            "How many hosts have each probe attached. A line that is lower than the number of hosts: one of them is blind.",
            [query(f"sum by (probe) (closewatch_probe_attached{{{HOSTS}}})", "{{probe}}")],
            width=8,
        )
    )
    board.add(
        lines(
            "How long is it up?",
            "Since the daemon started. What a restart interrupts is seen only as far as it is taken over.",
            [query(f"time() - max by (instance) (process_start_time_seconds{{{HOSTS}}})", "{{instance}}")],
            "s",
            width=8,
        )
    )
    board.row("Does it see everything?")
    board.add(
        lines(
            "Lost events",
            "Kernel events that did not reach the daemon. ring_full: something was told late. ring_full_at_end: a record may "
            "be missing. malformed: a fault of closewatch.",
            [query(raised("closewatch_events_lost_total", "reason"), "{{reason}}")],
        )
    )
    board.add(
        lines(
            "Lost connections",
            "WebSockets that are not followed at all, by reason; swept: followed, and their end was not seen.",
            [
                query(raised("closewatch_sockets_lost_total", "reason"), "{{reason}}"),
                query(f"sum(increase(closewatch_connections_swept_total{{{HOSTS}}}[$__rate_interval]))", "swept"),
            ],
        )
    )
    board.add(
        lines(
            "Lost streams",
            "Times that a direction of a connection lost its place among the frames, by direction and reason.",
            [query(raised("closewatch_streams_lost_total", "direction, reason"), "{{direction}}: {{reason}}")],
        )
    )
    board.add(
        lines(
            "Found again and taken over",
            "Streams that were lost and could be followed again, by direction, and connections that were open before the "
            "daemon started, by role.",
            [
                query(raised("closewatch_streams_relocked_total", "direction"), "found again: {{direction}}"),
                query(raised("closewatch_connections_adopted_total", "role"), "taken over: {{role}}"),
            ],
        )
    )
    board.add(
        lines(
            "Heads that were not read",
            "Openings of which the record lacks host, path or the like, by head and reason. Outcomes are not concerned.",
            [query(raised("closewatch_heads_unparsed_total", "head, reason"), "{{head}}: {{reason}}")],
        )
    )
    board.add(
        lines(
            "Servers without a name",
            'Ended connections that count under server="other", since --max-servers is reached.',
            [query(raised("closewatch_servers_folded_total", "instance"), "{{instance}}")],
        )
    )
    board.add(
        lines(
            "Where is TIME_WAIT listed?",
            "Network namespaces with followed connections, by what became of listing their sockets in TIME_WAIT. refused: the "
            "daemon's privileges do not reach into them, and the number of such sockets is not known there.",
            [query(f"sum by (result) (closewatch_time_wait_namespaces{{{HOSTS}}})", "{{result}}")],
        )
    )
    board.add(
        lines(
            "How long does that take?",
            "The latest listing of sockets in TIME_WAIT.",
            [query(f"max by (instance) (closewatch_time_wait_listing_seconds{{{HOSTS}}})", "{{instance}}")],
            "s",
        )
    )
    board.add(
        lines(
            "TLS sessions that are not followed",
            "With --tls, WebSockets over TLS that have no record, by result: contradicted, unbound and left count sessions, no_room "
            "calls of the library in sessions that are left out.",
            [query(raised("closewatch_tls_sessions_total", "result", ', result!="bound"'), "{{result}}")],
        )
    )
    board.add(
        lines(
            "Files with TLS that is not followed",
            "With --tls, libraries and programs, by reason: a function is lacking (symbols), the kernel does not take the probes "
            "(refused), or the file cannot be read (unreadable).",
            [query(f"sum by (reason) (closewatch_tls_files_unsupported_total{{{HOSTS}}})", "{{reason}}")],
        )
    )
    board.row("Does it tell everything?")
    board.add(
        lines(
            "Records",
            "Records written a second, and those dropped since the disk stayed full or hangs. Both 0 without --records.",
            [
                query(f"sum(rate(closewatch_records_written_total{{{HOSTS}}}[$__rate_interval]))", "written"),
                query(f"sum(rate(closewatch_records_lost_total{{{HOSTS}}}[$__rate_interval]))", "dropped"),
            ],
            "cps",
            width=8,
        )
    )
    board.add(
        lines(
            "Series",
            "Samples in one reading of each daemon: what it costs Prometheus. --max-servers bounds it.",
            [query(f"max by (instance) (scrape_samples_scraped{{{HOSTS}}})", "{{instance}}")],
            width=8,
        )
    )
    board.add(
        lines(
            "Time of a reading",
            "How long Prometheus takes to read the metrics.",
            [query(f"max by (instance) (scrape_duration_seconds{{{HOSTS}}})", "{{instance}}")],
            "s",
            width=8,
        )
    )
    board.row("What does it cost?")
    board.add(
        lines(
            "CPU",
            "Of one CPU, by the daemon. The probes run in the kernel, on the account of whoever sends and receives.",
            [query(f"sum by (instance) (rate(process_cpu_seconds_total{{{HOSTS}}}[$__rate_interval]))", "{{instance}}")],
            "percentunit",
            width=8,
        )
    )
    board.add(
        lines(
            "Memory",
            "Resident memory of the daemon.",
            [query(f"max by (instance) (process_resident_memory_bytes{{{HOSTS}}})", "{{instance}}")],
            "bytes",
            width=8,
        )
    )
    board.add(
        lines(
            "File descriptors",
            "Open file descriptors of the daemon. Constant, but for those who read its metrics.",
            [query(f"max by (instance) (process_open_fds{{{HOSTS}}})", "{{instance}}")],
            width=8,
        )
    )
    return board


def totals(board):
    board.add(
        number(
            "Hosts",
            "How many daemons does Prometheus read?",
            f"count(closewatch_build_info{{{HOSTS}}}) or vector(0)",
            steps=[(None, "red"), (1, "green")],
            width=3,
        )
    )
    board.add(
        number(
            "Down",
            "How many targets of the same jobs do not answer?",
            'sum(1 - up{job=~"$job", instance=~"$instance"})',
            steps=ANY_IS_BAD,
            width=3,
        )
    )
    board.add(
        number(
            "Blind",
            "How many hosts run the daemon without one of its probes?",
            f"count(min by (instance) (closewatch_probe_attached{{{HOSTS}}}) == 0) or vector(0)",
            steps=ANY_IS_BAD,
            width=3,
        )
    )
    board.add(
        number(
            "Restarts",
            "How often were daemons started anew in the time shown?",
            f"sum(changes(process_start_time_seconds{{{HOSTS}}}[$__range]))",
            width=3,
        )
    )
    board.add(
        number(
            "Ends lost",
            "How many events were lost in the time shown that nothing tells again? A record may be missing for each.",
            gained("closewatch_events_lost_total", ', reason!="ring_full"'),
            steps=ANY_IS_BAD,
            width=3,
            decimals=0,
        )
    )
    board.add(
        number(
            "Records dropped",
            "How many records were not written in the time shown?",
            gained("closewatch_records_lost_total"),
            steps=ANY_IS_BAD,
            width=3,
            decimals=0,
        )
    )
    board.add(
        number(
            "Streams lost",
            "How often did a direction of a connection lose its place, for each that was opened in the time shown?",
            f"{gained('closewatch_streams_lost_total')} / (2 * {gained('closewatch_connections_opened_total')} > 0) or vector(0)",
            "percentunit",
            SHARE,
            width=3,
            decimals=2,
        )
    )
    board.add(
        number(
            "Versions",
            "How many versions of closewatch run?",
            f"count(count by (version) (closewatch_build_info{{{HOSTS}}}))",
            steps=[(None, "green"), (2, "yellow")],
            width=3,
        )
    )
