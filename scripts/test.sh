#!/usr/bin/env bash
# Runs every suite, or those named, one after the other: prints each one's time, then what was run, and as its last line
# how many tests passed and failed. Goes on after a suite that failed; exits with 1 if any did.
#
#   scripts/test.sh                     everything
#   scripts/test.sh rust sim            these alone
#
# SEEDS, KILL_ROUNDS, CHAOS_SECONDS: how many simulated seeds, kill rounds, and seconds of chaos (1000, 50 and 120 unless
# set). CHAOS_SEED repeats the faults of a chaos test that printed it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=.tools/test-logs
mkdir -p "$logs"

pytest() { (cd tests && ../.tools/venv/bin/pytest "$@"); }

rust() { cargo test --workspace --quiet --no-fail-fast; }
sim() { cargo run --quiet --release -p kafscale-sim -- --seeds "${SEEDS:-1000}"; }
produce_consume() { pytest test_data_set.py test_kcat.py test_librdkafka.py test_rdkafka.py test_java.py test_python_clients.py test_node_clients.py; }
consumer_group() { pytest test_groups.py test_group_admin.py test_group_tools.py test_rebalance_storm.py -s; }
protocol() { pytest test_protocol.py test_admin.py test_addresses.py test_transactional_id.py test_observed.py; }
durability() { pytest test_long_run.py test_restart.py test_durable_order.py test_start_errors.py test_version.py; }
s3() { pytest test_s3.py; }
cluster() { pytest test_cluster.py; }
hostile() { pytest test_hostile.py; }
dist() { scripts/dist.sh && pytest test_dist.py; }
kill_test() { pytest kill --kill-rounds "${KILL_ROUNDS:-50}" -s; }
chaos() { pytest chaos test_proxy.py --chaos-seconds "${CHAOS_SECONDS:-120}" ${CHAOS_SEED:+--chaos-seed "$CHAOS_SEED"} -s; }
clients_page() { (cd tests && ../.tools/venv/bin/python -m harness.clients_page --check); }
scripts() { .tools/venv/bin/shellcheck .ci/run scripts/*.sh; }

all=(scripts rust sim produce_consume consumer_group protocol durability s3 cluster hostile dist kill_test chaos clients_page)
suites=("${@:-${all[@]}}")
# The page of clients is made from the results of one run, not of what a test was called before.
(($#)) || rm -rf target/client-results

# The numbers that pytest and cargo print at the end, over all suites.
counted() { # counted WORD LOG
  sed -e 's/\x1b\[[0-9;]*m//g' "$2" | { grep -E '^(test result:|=*[ 0-9].* in [0-9.]+s)' || true; } | { grep -oE "[0-9]+ $1" || true; } | awk '{ n += $1 } END { print n + 0 }'
}

passed=0 failed=0 skipped=0 summary=()
for suite in "${suites[@]}"; do
  [[ " ${all[*]} " == *" $suite "* ]] || { echo "there is no suite $suite (there are: ${all[*]})" >&2; exit 2; }
done
for suite in "${suites[@]}"; do
  echo "==> $suite"
  began=$SECONDS
  "$suite" 2>&1 | tee "$logs/$suite.log"
  code=${PIPESTATUS[0]}
  good=$(counted passed "$logs/$suite.log") bad=$(counted failed "$logs/$suite.log")
  bad=$((bad + $(counted 'errors?' "$logs/$suite.log")))
  left=$(counted '(skipped|ignored)' "$logs/$suite.log")
  # A suite that counts no tests is itself one; one that fails without a failed test is a failed one.
  ((good + bad == 0 && code == 0)) && good=1
  ((bad == 0 && code != 0)) && bad=1
  ((passed += good, failed += bad, skipped += left))
  summary+=("$(printf '%6d s  %5d passed %3d failed  %s' $((SECONDS - began)) "$good" "$bad" "$suite")")
done

printf '\n%s\n' "${summary[@]}" "$(printf '%6d s  in all' "$SECONDS")"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
