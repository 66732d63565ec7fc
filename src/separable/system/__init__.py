"""Everything that depends on the operating system, with a branch for systems that lack it.

No other package uses a name that only some systems have (`os.preadv`, `fcntl`, ``/proc`` ...); a test
searches the sources for them. The branch is chosen when a function is called, not when this package
is imported, so that tests can remove a name.
"""

from separable.system.descriptors import NO_SUCH_LOCK, exchange, flush_path, rename_new
from separable.system.handles import Handle
from separable.system.memory import (
    HAS_PRIVATE_MAPPINGS,
    HUGE_PAGES_ADVICE,
    MAPPING_FLAGS,
    MAPPING_PROTECTION,
    ask_huge_pages,
    peak_memory,
    physical_memory,
    resident_memory,
    return_free_memory,
)
from separable.system.processors import (
    after_fork,
    available_processors,
    group_of_its_own,
    hold_while_forking,
    last_level_cache,
    loaded_libraries,
    process_exists,
    processor_features,
    processor_limit,
    processor_name,
    processor_vendor,
    yield_function,
)

__all__ = [
    "HAS_PRIVATE_MAPPINGS",
    "HUGE_PAGES_ADVICE",
    "MAPPING_FLAGS",
    "MAPPING_PROTECTION",
    "NO_SUCH_LOCK",
    "Handle",
    "after_fork",
    "ask_huge_pages",
    "available_processors",
    "exchange",
    "flush_path",
    "group_of_its_own",
    "hold_while_forking",
    "last_level_cache",
    "loaded_libraries",
    "peak_memory",
    "physical_memory",
    "process_exists",
    "processor_features",
    "processor_limit",
    "processor_name",
    "processor_vendor",
    "rename_new",
    "resident_memory",
    "return_free_memory",
    "yield_function",
]
