"""The stage graph: frozen stages, semantic fingerprints, manifests written last, plans.

Importing it loads neither torch nor ray; only `executor.execute` imports ray, when called.
"""

from momo_platform.stages.errors import StageFailed, UserError
from momo_platform.stages.fingerprint import canonical, fingerprint
from momo_platform.stages.inputs import by_role
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.plan import Plan, PlanEntry, make_plan, print_plan
from momo_platform.stages.stage import Artifact, Context, Resources, Stage
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.open import open_storage

__all__ = [
    "Artifact",
    "Context",
    "Manifest",
    "Plan",
    "PlanEntry",
    "Resources",
    "Stage",
    "StageFailed",
    "Storage",
    "UserError",
    "by_role",
    "canonical",
    "fingerprint",
    "make_plan",
    "open_storage",
    "print_plan",
]
