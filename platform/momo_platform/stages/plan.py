"""What would run, and why. Needs neither ray nor torch and takes milliseconds."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from momo_platform.stages.begun import read_begun
from momo_platform.stages.checkpoints import CHECKPOINTS, Checkpoints
from momo_platform.stages.errors import UserError
from momo_platform.stages.fingerprint import canonical, fingerprint
from momo_platform.stages.manifest import Manifest, changed_files, source_hashes
from momo_platform.stages.stage import Stage, all_stages
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.attempts import PARTS

if TYPE_CHECKING:
    from rich.console import Console

Action = Literal["run", "resume", "cached", "skipped"]
NOT_CHOSEN, RERUN = "not in --only", "--rerun"
_STYLES: dict[str, str] = {"run": "yellow", "resume": "cyan", "cached": "green", "skipped": "dim"}


@dataclass(frozen=True)
class PlanEntry:
    """One stage's fate: its action and the reason for it; `attempt` made the artifact that was
    there at planning, None without one."""

    stage: Stage
    fingerprint: str
    action: Action
    reason: str
    attempt: str | None

    @property
    def name(self) -> str:
        return self.stage.name


@dataclass(frozen=True)
class Plan:
    """All stages, inputs before what needs them."""

    entries: tuple[PlanEntry, ...]

    def __getitem__(self, name: str) -> PlanEntry:
        return next(e for e in self.entries if e.name == name)

    @property
    def to_run(self) -> tuple[PlanEntry, ...]:
        return tuple(e for e in self.entries if e.action in ("run", "resume"))

    def mermaid(self) -> str:
        """The graph as a Mermaid flow chart."""
        lines = ["flowchart LR"]
        for entry in self.entries:
            lines.append(f'  {entry.name}["{entry.name}<br/>{entry.fingerprint}"]')
            lines += [f"  {s.name} --> {entry.name}" for s in entry.stage.inputs.values()]
        return "\n".join(lines)


def differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """'config.a.b 1 → 2' for every leaf that differs between two JSON values."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    else:
        yield f"{path} {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def why_new(stage: Stage, known: Mapping[str, str], others: Sequence[Manifest]) -> str:
    """Why no artifact has this fingerprint: the differences from the one of the same name whose
    config is most like this one, the newest of those that are equally so."""
    if not others:
        return "never run"
    config = canonical(stage.config)
    unlike = [_unlike(m.config, config) for m in others]
    least = min(unlike)
    nearest = [m for m, n in zip(others, unlike, strict=True) if n == least]
    reasons = min((_reasons(stage, config, known, m) for m in nearest), key=len)
    shown = "; ".join(reasons[:2]) or "config type changed"
    return shown + (f" and {len(reasons) - 2} more" if len(reasons) > 2 else "")


def _reasons(stage: Stage, config: Any, known: Mapping[str, str], other: Manifest) -> list[str]:
    reasons = list(differences(other.config, config, "config"))
    if other.version != stage.version:
        reasons.append(f"version {other.version} → {stage.version}")
    for role, upstream in stage.inputs.items():
        before = other.inputs.get(role, {}).get("fingerprint")
        if before != known[upstream.name]:
            reasons.append(f"input {upstream.name} changed")
    return reasons


_ABSENT = object()


def _unlike(old: Any, new: Any) -> int:
    """How many of `new`'s leaves `old` lacks or has with another value."""
    if old == new:
        return 0  # whole branches at once: there may be thousands of artifacts
    if isinstance(new, dict) and new:
        before = old if isinstance(old, dict) else {}
        return sum(_unlike(before.get(key, _ABSENT), value) for key, value in new.items())
    if isinstance(new, list) and new:
        before = old if isinstance(old, list) and len(old) == len(new) else [_ABSENT] * len(new)
        return sum(_unlike(a, b) for a, b in zip(before, new, strict=True))
    return 1


def changed_input(stage: Stage, manifest: Manifest, storage: Storage) -> str | None:
    """The name of an input whose content is no longer what `manifest` was made from, or None."""
    for role, upstream in stage.inputs.items():
        made_from = manifest.inputs.get(role, {})
        now = storage.manifest(upstream.name, made_from.get("fingerprint", "-"))
        recorded = made_from.get("content")
        if now is not None and recorded is not None and not now.is_content(recorded):
            return upstream.name
    return None


def _changed_code(files: Sequence[str]) -> str:
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return f"code changed since: {', '.join(files[:2])}{more}"


class _Code:
    """The source files of modules as they are now, hashed once: many stages share them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, modules: tuple[str, ...]) -> dict[str, str]:
        if modules not in self._known:
            self._known[modules] = source_hashes(modules)
        return self._known[modules]


def _steps(steps: Sequence[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"


def _resume_reason(
    stage: Stage, digest: str, found: Checkpoints, storage: Storage, code: _Code, *, again: bool
) -> str:
    """`again`: of a rerun, which `--rerun` goes on with."""
    step, begun = found.newest, read_begun(storage, stage.name, digest)
    if step is None:
        reason = f"{RERUN} that was interrupted" if again else "parts of an interrupted attempt"
    else:
        reason = f"checkpoint at step {step}"
        reason = f"{RERUN} that was interrupted at step {step}" if again else reason
    if found.damaged:
        verb = "are" if len(found.damaged) > 1 else "is"
        reason += f" ({_steps(found.damaged)} {verb} damaged)"
    before = begun.code_at(step)
    changed = [] if before is None else changed_files(before, code.of(stage.sources))
    if not changed:
        return reason
    place = f"{storage.folder(stage.name, digest)}/{PARTS if step is None else CHECKPOINTS}"
    anew = f"delete {place}" if again else f"{RERUN} {stage.name}"
    return f"{reason}; {_changed_code(changed)} ({anew} to begin anew)"


def _goes_on(stage: Stage, digest: str, found: Checkpoints, storage: Storage) -> bool:
    """Whether an attempt would begin with what an earlier one left."""
    if found.newest is not None:
        return True
    return stage.continues and storage.unfinished_attempt(stage.name, digest) is not None


def _run_reason(reason: str, found: Checkpoints) -> str:
    if not found.damaged:
        return reason
    return f"{reason} (its checkpoints are damaged: {_steps(found.damaged)})"


def _cached_reason(stage: Stage, manifest: Manifest, remade: Sequence[str], code: _Code) -> str:
    if remade:
        return f"unless {', '.join(dict.fromkeys(remade))} comes out different"
    if changed := changed_files(manifest.code, code.of(stage.sources)):
        return f"{_changed_code(changed)} ({RERUN} {manifest.stage} to run again)"
    return f"made {manifest.created[:16].replace('T', ' ')} in {manifest.seconds:.0f} s"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def make_plan(
    targets: Sequence[Stage],
    storage: Storage,
    *,
    only: Sequence[str] = (),
    until: str | None = None,
    rerun: Sequence[str] = (),
) -> Plan:
    """Decide every stage's action.

    `only` and `rerun` are shell patterns of names, `until` is a name. Raises UserError for a
    pattern that matches nothing and for an `only` whose inputs don't exist.
    """
    stages = all_stages(list(targets))
    if until is not None:
        stages = all_stages([_named(stages, until)])
    _check_patterns(stages, "--only", only)
    _check_patterns(stages, "--rerun", rerun)
    known: dict[str, str] = {}
    code = _Code()
    entries: dict[str, PlanEntry] = {}
    for stage in stages:
        digest = fingerprint(stage, known)
        manifest = storage.manifest(stage.name, digest)
        upstream = [s.name for s in stage.inputs.values() if entries[s.name].action != "cached"]
        action: Action
        if only and not _matches(stage.name, only):
            action, reason = ("cached" if manifest else "skipped"), NOT_CHOSEN
        elif _matches(stage.name, rerun):
            # A finished artifact has none of these: they are of a rerun that was interrupted.
            found = storage.checkpoints(stage.name, digest) if manifest else Checkpoints()
            if not (manifest and _goes_on(stage, digest, found, storage)):
                action, reason = "run", _run_reason(RERUN, found)
            else:
                action = "resume"
                reason = _resume_reason(stage, digest, found, storage, code, again=True)
        elif manifest is None:
            found = storage.checkpoints(stage.name, digest)
            if _goes_on(stage, digest, found, storage):
                action = "resume"
                reason = _resume_reason(stage, digest, found, storage, code, again=False)
            elif damage := storage.damage(stage.name, digest):
                action, reason = "run", _run_reason(f"{damage}: made again", found)
            else:
                why = why_new(stage, known, storage.others(stage.name))
                action, reason = "run", _run_reason(why, found)
        elif problem := storage.problem(manifest):
            action, reason = "run", problem
        elif changed := changed_input(stage, manifest, storage):
            action, reason = "run", f"input {changed} was made again and came out different"
        else:
            # An input that is made again and comes out equal leaves this one as it is; the
            # executor looks again when it is there.
            action, reason = "cached", _cached_reason(stage, manifest, upstream, code)
        missing = [n for n in upstream if entries[n].action == "skipped"]
        if action in ("run", "resume") and missing:
            raise UserError(f"--only: {stage.name} needs {missing[0]}, which was never run")
        attempt = None if manifest is None else manifest.attempt
        entries[stage.name] = PlanEntry(stage, digest, action, reason, attempt)
    return Plan(tuple(entries.values()))


def _named(stages: Sequence[Stage], until: str) -> Stage:
    for stage in stages:
        if stage.name == until:
            return stage
    names = ", ".join(s.name for s in stages)
    raise UserError(f"--until {until}: no such stage; stages are {names}")


def _check_patterns(stages: Sequence[Stage], option: str, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(_matches(s.name, [pattern]) for s in stages):
            names = ", ".join(s.name for s in stages)
            raise UserError(f"{option} {pattern}: matches no stage; stages are {names}")


def print_plan(plan: Plan, console: Console) -> None:
    """The plan as a table: stage, action, fingerprint, reason."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("stage", "action", "fingerprint", "reason"):
        table.add_column(title, overflow="fold", no_wrap=title != "reason")
    for entry in plan.entries:
        action = Text(entry.action, _STYLES[entry.action])
        table.add_row(entry.name, action, entry.fingerprint, Text(entry.reason))
    console.print(table)
