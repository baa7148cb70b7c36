"""What holds for the service in a real system: each function `check_*` below, in this order.

Says on stdout, for the one who booted this machine: `checks COUNT` first, then `ok NAME, SECONDS s` or `FAILED NAME: WHY` for
each.
A check that fails keeps no other from being tried.
"""

import sys
import time
import traceback

import packages
import restarts
import service
import watching
from system import SERVICE, SOCKET, run

CHECKS = [
    packages.check_installs_and_starts,
    service.check_runs_as_its_own_user,
    service.check_gave_up_its_privileges,
    service.check_sandbox_is_as_tight_as_promised,
    service.check_writes_nowhere_else,
    watching.check_records_and_metrics_are_what_was_done,
    watching.check_status_line_tells_it,
    watching.check_journal_has_fields,
    watching.check_logrotate_moves_the_records,
    # From here on it is started again and again, which takes most of the time: the verifier is slow here. So each
    # leaves the service to the next as that wants it.
    watching.check_tls_is_followed_with_the_drop_in,
    watching.check_namespaces_are_entered_with_the_drop_in,
    restarts.check_stuck_it_is_started_anew,
    restarts.check_scrapes_wait_while_it_restarts,
    restarts.check_connection_outlives_restart_and_kill,
    restarts.check_scrape_starts_it,
    restarts.check_wrong_flag_is_not_tried_again,
    packages.check_upgrade_keeps_settings_and_runs_on,
    packages.check_removal_stops_it,
    packages.check_purge_leaves_nothing,
]


def main():
    print(f"checks {len(CHECKS)}", flush=True)
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        began = time.monotonic()
        try:
            said = check()
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            print(run("journalctl", "--unit", SERVICE, "--unit", SOCKET, "--lines", "25"))
            print(f"FAILED {name}: {error}", flush=True)
        else:
            took = time.monotonic() - began
            print(f"ok {name}, {took:.0f} s{f': {said}' if said else ''}", flush=True)


main()
