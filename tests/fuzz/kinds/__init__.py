"""What is damaged, and what is then done with it. A kind makes whole files once; each case damages one its own way."""

from __future__ import annotations

from tests.fuzz.kinds.base import Kind
from tests.fuzz.kinds.checkpoints import Checkpoints
from tests.fuzz.kinds.configs import Configs
from tests.fuzz.kinds.containers import Containers
from tests.fuzz.kinds.datasets import Datasets
from tests.fuzz.kinds.photos import Photos
from tests.fuzz.kinds.resumes import Resumes
from tests.fuzz.kinds.weights import WeightsFiles

KINDS: dict[str, type[Kind]] = {
    "containers": Containers,
    "weights": WeightsFiles,
    "configs": Configs,
    "datasets": Datasets,
    "checkpoints": Checkpoints,
    "resumes": Resumes,
    "photos": Photos,
}
