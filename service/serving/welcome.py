"""What a person needs first: where the service is, what runs, and a request that works."""

from collections.abc import Iterable

from service.app import Podium
from service.deployments import Deployment
from service.engines.loading import ON_THE_CPU
from service.processes.plan import WorkerPlan
from service.settings import Settings


def welcome(podium: Podium, settings: Settings, plan: WorkerPlan, host: str, port: int) -> str:
    """The addresses, how the machine is used, and a request that works as printed.

    Args:
        podium: What is served.
        settings: Whether requests need an API key: the printed one takes it from the shell.
        plan: How many processes serve, and why.
        host: Where.
        port: Where.
    """
    address = f"[{host}]" if ":" in host else host
    base = f"http://{address}:{port}"
    key = ' -H "Authorization: Bearer $PODIUM_API_KEY"' if settings.auth.keys else ""
    lines = [
        f"Podium serves {podium.deployments.summary()}",
        f"  dashboard  {base}/dashboard",
        f"  API        {base}/schema",
        f"  stores     {podium.stores_summary}",
        f"  workers    {plan.workers} ({plan.why})",
        f"  engines    {_engines(podium, settings)}",
        "",
        "Try it:",
        f"  {podium.deployments.example_request(base)}{key}",
        "",
    ]
    return "\n".join(lines)


def _engines(podium: Podium, settings: Settings) -> str:
    """How each worker scores: instances, threads, and the largest batches."""
    scoring = {id(d.batcher): d for d in podium.deployments.values() if d.batcher is not None}
    if not scoring:
        return "none: popularity ranks"
    number = sum(len(deployment.chains) for deployment in scoring.values())
    rows = {_largest_batch(deployment, settings) for deployment in scoring.values()}
    if settings.engine.process == "shared":
        return (
            f"in a process of their own, {number} calls at a time from each worker, "
            f"batches of at most {' or '.join(map(str, sorted(rows)))} rows"
        )
    return (
        f"{number} per worker, {_where(scoring.values(), settings)}, "
        f"batches of at most {' or '.join(map(str, sorted(rows)))} rows"
    )


def _where(scoring: Iterable[Deployment], settings: Settings) -> str:
    """What the engines that serve now score on."""
    names = {d.serving.name for d in scoring if d.serving is not None}
    threads = settings.engine.threads
    cpu = f"on the CPU with {threads} {'thread' if threads == 1 else 'threads'}"
    others = [f"on {name}" for name in sorted(names - ON_THE_CPU)]
    return " and ".join([cpu, *others] if names & ON_THE_CPU or not others else others)


def _largest_batch(deployment: Deployment, settings: Settings) -> int:
    chain = deployment.chains[0]
    return min(settings.batching.max_batch_rows or chain.best_batch_rows, chain.max_batch_rows)
