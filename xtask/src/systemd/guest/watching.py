"""What the daemon says of connections that this machine made itself."""

import collections
import json
import os
import subprocess
import time

from service import (
    CAP_CHECKPOINT_RESTORE,
    CAP_DAC_READ_SEARCH,
    CAP_SYS_ADMIN,
    CAP_SYS_PTRACE,
    UNIT,
    threads,
)
from system import RECORDS, SERVICE, fetch, metric, reconfigure, records, run, show, systemctl, until
from workload import CLEAN, GAVE_UP, PATIENCE, in_namespace, visit

CLEAN_PORT, SLOW_PORT, NAMESPACE_PORT, TLS_PORT = 9000, 9001, 9002, 9003
VISITS = 5


def check_records_and_metrics_are_what_was_done():
    visit(CLEAN_PORT, CLEAN, VISITS)
    began = time.monotonic()
    visit(SLOW_PORT, GAVE_UP, VISITS)
    took = time.monotonic() - began
    until("all records", lambda: len(records()) >= 4 * VISITS)
    found = collections.Counter((r["server"], r["role"], r["outcome"]) for r in records())
    done = {
        (f"127.0.0.1:{port}", role, outcome): VISITS
        for port, outcome in [(CLEAN_PORT, "clean"), (SLOW_PORT, "client_gave_up")]
        for role in ("client", "server")
    }
    assert found == done, found
    waits = collections.Counter()
    for record in records():
        assert record["process"] == "python3" and record["pid"] == os.getpid(), record
        assert record["cgroup"] == "/system.slice/guest.service", record
        if record["outcome"] == "client_gave_up":
            waits[record["role"]] += record["close_to_fin_seconds"]
    # One after another, and hardly anything but waiting.
    assert all(VISITS * PATIENCE <= wait < took for wait in waits.values()), (waits, took)
    for (server, role, outcome), count in done.items():
        labels = f'server="{server}"', f'role="{role}"', f'outcome="{outcome}"'
        assert metric("closewatch_connections_ended_total", *labels) == count, labels
    assert fetch("/readyz") == "alive\n"
    lost = ("events_lost", "sockets_lost", "streams_lost", "records_lost", "connections_swept")
    assert not sum(metric(f"closewatch_{name}_total") for name in lost), fetch("/metrics")
    return f"{len(records())} records"


def check_status_line_tells_it():
    line = "1 server delays closing, 0 connections followed, 0 lost"
    until(line, lambda: show("StatusText") == line)


def check_journal_has_fields():
    server = f"127.0.0.1:{SLOW_PORT}"
    log = run("journalctl", "--unit", SERVICE, "--output", "json", f"CLOSEWATCH_SERVER={server}")
    entries = [json.loads(line) for line in log.splitlines()]
    assert {entry["CLOSEWATCH_ROLE"] for entry in entries} == {"client", "server"}, log
    for entry in entries:
        assert entry["MESSAGE"] == "server delays closing", entry
        assert entry["SYSLOG_IDENTIFIER"] == "closewatch", entry
        assert int(entry["CLOSEWATCH_ENDED"]) >= 3, entry
    return f"{len(entries)} lines about {server}"


def check_logrotate_moves_the_records():
    before = records()
    run("logrotate", "--force", "/etc/logrotate.d/closewatch")
    assert records(RECORDS + ".1") == before
    visit(CLEAN_PORT, CLEAN, 1)
    until("records in the new file", lambda: os.path.exists(RECORDS) and len(records()) == 2)
    owner = run("stat", "--format", "%U %G %a", RECORDS).strip()
    assert owner == "closewatch closewatch 640", owner
    assert show("ActiveState") == "active"


def check_tls_is_followed_with_the_drop_in():
    """By default it is counted and not seen; with the drop-in there are records of it."""
    folder = "/run/guest-tls"
    os.mkdir(folder)
    run(
        *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=guest".split(),
        *"-addext subjectAltName=IP:127.0.0.1".split(),
        *f"-keyout {folder}/server.key -out {folder}/server.crt".split(),
    )
    os.symlink("server.crt", f"{folder}/authority.crt")
    os.environ["CLOSEWATCH_TEST_TLS"] = folder
    # Here, for it takes OpenSSL in.
    from secure_raw import SecureEnd

    def hidden():
        return [record for record in records() if record["tls"]]

    visit(TLS_PORT, CLEAN, VISITS, SecureEnd)
    for role in ("client", "server"):
        labels = f'role="{role}"'
        until("the count", lambda: metric("closewatch_tls_connections_total", labels) == VISITS)
    with open(drop_in("closewatch-tls.conf")) as text:
        reconfigure(text.read())
    systemctl("restart", SERVICE)
    assert not hidden(), hidden()
    visit(TLS_PORT, CLEAN, VISITS, SecureEnd)
    until("all records", lambda: len(hidden()) == 2 * VISITS)
    assert {record["outcome"] for record in hidden()} == {"clean"}, hidden()
    assert metric("closewatch_tls_sessions_total", 'result="bound"') == 2 * VISITS
    # This kernel wants CAP_SYS_ADMIN for a probe, which also opens what is mapped.
    kept = {
        "tls": CAP_SYS_ADMIN | CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH,
        "time-wait": CAP_SYS_ADMIN | CAP_SYS_PTRACE,
    }
    bounds = UNIT | CAP_CHECKPOINT_RESTORE | kept["tls"]
    found = threads()
    assert kept.keys() < {thread["Name"] for thread in found}, found
    for thread in found:
        for name in ("CapEff", "CapPrm"):
            assert int(thread[name], 16) == kept.get(thread["Name"], 0), thread
        assert int(thread["CapBnd"], 16) == bounds, thread
    log = run("journalctl", "--unit", SERVICE, "--output", "json", "CLOSEWATCH_FUNCTIONS=6")
    assert "TLS is followed in this file" in log, log
    return f"{2 * VISITS} records; the thread tls alone keeps {kept['tls']:#x}"


def check_namespaces_are_entered_with_the_drop_in():
    """By default it cannot, and says so; with the drop-in it counts what is there."""
    for words in ["add guest", "exec guest ip link set lo up"]:
        run("ip", "netns", *words.split())

    def counted(result):
        return metric("closewatch_time_wait_namespaces", f'result="{result}"')

    def leave():
        # The server's end closes first, and has the TIME_WAIT.
        in_namespace("guest", lambda: visit(NAMESPACE_PORT, CLEAN, VISITS))

    stay = subprocess.Popen(["ip", "netns", "exec", "guest", "sleep", "infinity"])
    leave()
    until("a refusal", lambda: counted("refused") == 1)
    with open(drop_in("closewatch-namespaces.conf")) as text:
        # And for the check of the watchdog, less of its patience.
        reconfigure(text.read() + "WatchdogSec=10\n")
    systemctl("restart", SERVICE)
    leave()
    labels = f'server="127.0.0.1:{NAMESPACE_PORT}"', 'role="server"'
    until("the entries", lambda: metric("closewatch_time_wait_sockets", *labels) == 2 * VISITS)
    assert counted("refused") == 0, fetch("/metrics")
    namespaces = [thread for thread in threads() if int(thread["CapEff"], 16)]
    assert [thread["Name"] for thread in namespaces] == ["time-wait"], namespaces
    stay.kill()
    return f"{2 * VISITS} entries in another namespace"


def drop_in(name):
    listed = run("dpkg", "--listfiles", "closewatch").split()
    return next(path for path in listed if path.endswith(name))
