"""``python -m tests.bench``: the measurements behind the README's table."""

from tests.bench.bench_rank import main

main()
