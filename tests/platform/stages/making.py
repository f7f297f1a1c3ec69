"""Making artifacts in this process, without Ray."""

from momo_platform.stages import Stage, Storage, canonical, fingerprint
from momo_platform.stages.stage import all_stages
from momo_platform.stages.task import StageSpec, run_stage


def make(storage: Storage, *targets: Stage) -> None:
    """Run every stage that the targets need, one after another."""
    known: dict[str, str] = {}
    for stage in all_stages(targets):
        digest = fingerprint(stage, known)
        inputs = {role: (s.name, known[s.name]) for role, s in stage.inputs.items()}
        spec = StageSpec(
            stage.name,
            digest,
            stage.version,
            stage.run,
            stage.config,
            canonical(stage.config),
            inputs,
            stage.sources,
            storage.uri,
            stage.resources.total,
            continues=stage.continues,
        )
        run_stage(spec, lambda _: None, dict)
