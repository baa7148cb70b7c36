"""The service that stops, is killed, is stuck, is told nonsense: what comes after."""

import os
import signal
import threading
import time

from system import (
    SERVICE,
    SOCKET,
    fetch,
    is_active,
    main_pid,
    reconfigure,
    records,
    run,
    show,
    systemctl,
    until,
)
from watching import CLEAN_PORT
from workload import CLEAN, Open, visit

SPANNING_PORT = 9003


def works():
    """It watches, and writes what it saw."""
    before = len(records())
    visit(CLEAN_PORT, CLEAN, 1)
    until("two more records", lambda: len(records()) == before + 2)


def came_back(pid):
    until("another process", lambda: is_active() and main_pid() not in (0, pid), 120)


def check_stuck_it_is_started_anew():
    """With the patience that the check before gave the watchdog."""
    pid = main_pid()
    os.kill(pid, signal.SIGSTOP)
    came_back(pid)
    reason = run("journalctl", "--unit", SERVICE, "--grep", "Watchdog timeout")
    assert reason.count("Watchdog timeout") == 1, reason


def check_scrapes_wait_while_it_restarts():
    """As it is installed again."""
    scraped, failed, done = [], [], threading.Event()

    def scrape():
        while not done.is_set():
            try:
                fetch("/metrics")
                scraped.append(time.monotonic())
            except Exception as error:
                failed.append(error)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    pid = main_pid()
    reconfigure("")
    systemctl("restart", SERVICE)
    restarted = time.monotonic()
    until("a scrape after it", lambda: scraped and scraped[-1] > restarted)
    done.set()
    scraper.join()
    refused = [error for error in failed if "refused" in str(error)]
    assert not refused, refused
    assert main_pid() != pid
    works()
    return f"{len(scraped)} scrapes, none refused, {len(failed)} cut off"


def check_connection_outlives_restart_and_kill():
    """One record for each end, as if nothing had been."""
    before = len(records())
    connection = Open(SPANNING_PORT)
    connection.talk()
    systemctl("restart", SERVICE)
    connection.talk()
    pid = main_pid()
    os.kill(pid, signal.SIGKILL)
    connection.talk()
    came_back(pid)
    connection.talk()
    connection.close()
    until("its records", lambda: len(records()) == before + 2)
    for record in records()[before:]:
        assert record["server"] == f"127.0.0.1:{SPANNING_PORT}", record
        assert (record["outcome"], record["adopted"]) == ("clean", False), record
        assert (record["path"], record["user_agent"]) == ("/raw", "raw peer/1"), record
        # And the Close frame.
        frames = 4 * Open.TEXTS + 1
        assert (record["frames_sent"], record["frames_received"]) == (frames, frames), record


def check_scrape_starts_it():
    systemctl("stop", SERVICE)
    assert show("ActiveState") == "inactive" and show("ActiveState", SOCKET) == "active"
    assert fetch("/readyz", 120) == "alive\n"
    until("active", is_active)
    works()


def check_wrong_flag_is_not_tried_again():
    reconfigure("[Service]\nEnvironment=CLOSEWATCH_SLOW_AFTER=never\n")
    try:
        systemctl("restart", SERVICE)
    except AssertionError:
        pass
    until("failed", lambda: show("ActiveState") == "failed")
    assert (show("ExecMainStatus"), show("NRestarts")) == ("2", "0"), show("Result")
    reconfigure("")
    systemctl("reset-failed", SERVICE)
