"""All targets by name."""

import fuzz_databases
import fuzz_images
import fuzz_stores
import fuzz_texts
import fuzz_weights
from fuzz_target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for part in (fuzz_weights, fuzz_stores, fuzz_databases, fuzz_images, fuzz_texts)
    for target in part.TARGETS
}
