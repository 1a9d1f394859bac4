#!/usr/bin/env bash
# Checks the Spin model of the delivery protocol and its mutations (tests/model/README.md).
#
#   scripts/model-check.sh            bounded budgets, seconds
#   scripts/model-check.sh --full     larger ones, minutes
set -euo pipefail
exec /usr/bin/env python3 "$(dirname "$0")/../tests/model/check.py" "$@"
