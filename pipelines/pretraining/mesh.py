"""How the processes of one run are arranged: a mesh of data, tensor and pipeline parallelism, without torch."""

from math import prod
from typing import ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.stage import StageConfig
from pipelines.models.architectures import Architecture
from pipelines.models.sizes import Size
from pipelines.pretraining.settings import LoopConfig

REST = -1
DIMENSIONS = ("pp", "dp_replicate", "dp_shard", "tp")
"""The mesh from its slowest to its fastest dimension: neighbours, which talk most, are tensor parallel."""


class ParallelConfig(StageConfig):
    """Into how many processes one run is spread, and what each degree of the mesh cuts; names are torchtitan's."""

    model_config = ConfigDict(title="Parallelism")
    degrees: ClassVar[tuple[str, ...]] = (
        "pipeline_parallel_degree",
        "data_parallel_replicate_degree",
        "data_parallel_shard_degree",
        "tensor_parallel_degree",
    )

    processes: int = Field(
        1, ge=1, le=65_536, description="Processes that train one model, on all nodes together; one a GPU."
    )
    data_parallel_replicate_degree: int = Field(
        1, ge=1, le=65_536, description="Copies of the model that share each batch."
    )
    data_parallel_shard_degree: int = Field(
        REST,
        ge=REST,
        le=65_536,
        description="Parts that weights and optimizer state of a copy are cut into; -1: what is left of the processes.",
    )
    tensor_parallel_degree: int = Field(
        1, ge=1, le=64, description="Parts that each block's matrices and the vocabulary are cut into."
    )
    pipeline_parallel_degree: int = Field(1, ge=1, le=1024, description="Stages that the blocks are dealt out to.")
    expert_parallel_degree: int = Field(
        1, ge=1, le=1024, description="Shards that a mixture's experts are dealt out to: 1, or all shards."
    )
    cpu_offload: bool = Field(
        False, description="Keep weights, gradients and optimizer state in host memory, and step there."
    )
    nodes: int = Field(1, ge=1, le=8192, description="Machines that the processes are on, equally many on each.")
    rendezvous_endpoint: str | None = Field(
        None, pattern=r"^[^\s:]+:\d{1,5}$", description="HOST:PORT of one node, where the agents of all nodes meet."
    )

    @property
    def shards(self) -> int:
        """Into how many parts weights and optimizer state of a copy are cut."""
        if self.data_parallel_shard_degree != REST:
            return self.data_parallel_shard_degree
        others = self.pipeline_parallel_degree * self.data_parallel_replicate_degree * self.tensor_parallel_degree
        return self.processes // others

    @property
    def sizes(self) -> tuple[int, ...]:
        """The mesh's sizes, in the order of `DIMENSIONS`."""
        return (
            self.pipeline_parallel_degree,
            self.data_parallel_replicate_degree,
            self.shards,
            self.tensor_parallel_degree,
        )

    @property
    def data_degree(self) -> int:
        """Into how many parts a batch is cut."""
        return self.data_parallel_replicate_degree * self.shards

    @property
    def is_spread(self) -> bool:
        """Whether the run is launched: several processes, or one whose state is in host memory."""
        return self.processes > 1 or self.cpu_offload

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP2 holds the weights; copies alone, of a model that is not cut, are DDP's."""
        return self.shards > 1 or self.cpu_offload or (self.cuts_model and self.data_parallel_replicate_degree > 1)

    @property
    def cuts_model(self) -> bool:
        """Whether no process has the model's blocks whole, not even for a while."""
        return self.tensor_parallel_degree * self.pipeline_parallel_degree > 1

    @property
    def cuts_weights(self) -> bool:
        """Whether processes hold parts of single weights."""
        return self.is_sharded or self.tensor_parallel_degree > 1

    @model_validator(mode="after")
    def _the_mesh_multiplies(self) -> Self:
        given = {name: getattr(self, name) for name in self.degrees}
        if self.data_parallel_shard_degree == 0:
            raise ValueError("data_parallel_shard_degree: 0 is no degree; give -1, or 1 for none")
        known = prod(degree for degree in given.values() if degree != REST)
        named = " x ".join(f"{name} {degree}" for name, degree in given.items() if degree not in (1, REST)) or "1"
        if REST in given.values() and self.processes % known:
            raise ValueError(
                f"processes: {self.processes} does not divide by {known} ({named}); "
                f"set it to {-(-self.processes // known) * known} or lower a degree"
            )
        if REST not in given.values() and self.processes != known:
            raise ValueError(
                f"processes: {self.processes} and the degrees of the mesh multiply to {known} ({named}); "
                f"set processes to {known}, or data_parallel_shard_degree to -1"
            )
        if self.expert_parallel_degree not in (1, self.shards) or (
            self.expert_parallel_degree > 1 and (self.data_parallel_replicate_degree > 1 or self.cpu_offload)
        ):
            raise ValueError(
                f"expert_parallel_degree: {self.expert_parallel_degree} with {self.shards} shards of "
                f"{self.data_parallel_replicate_degree} copies; set it to 1, or to the shards of one copy that is not "
                "offloaded"
            )
        if self.processes % self.nodes:
            raise ValueError(
                f"nodes: {self.nodes} do not get equally many of {self.processes} processes; change one of them"
            )
        if self.nodes > 1 and self.rendezvous_endpoint is None:
            raise ValueError(
                f"rendezvous_endpoint: None with nodes {self.nodes}; several nodes need the HOST:PORT of one of them"
            )
        return self


def check_fit(parallel: ParallelConfig, row: Architecture, size: Size, config: LoopConfig) -> None:
    """Raise ValueError where the batch or a model of this size does not divide as the mesh asks."""
    data, tensor, stages = parallel.data_degree, parallel.tensor_parallel_degree, parallel.pipeline_parallel_degree
    alike = row.kind == "causal" and row.gated and not (row.biased or row.learned_positions or row.experts)
    if tensor * stages > 1 and not alike:
        raise ValueError(
            f"architecture {row.model_type!r} is not cut by parallel's tensor_parallel_degree {tensor} and "
            f"pipeline_parallel_degree {stages}, which are for blocks like Llama's; set both to 1"
        )
    for what, count, kind, degree in (
        (f"global_batch {config.global_batch}", config.global_batch, "data_parallel degrees' product", data),
        (f"the size's {size.n_head} attention heads", size.n_head, "tensor_parallel_degree", tensor),
        (f"the size's {size.n_kv_head} heads of keys", size.n_kv_head, "tensor_parallel_degree", tensor),
        (f"the size's {row.d_ff(size)} feed-forward columns", row.d_ff(size), "tensor_parallel_degree", tensor),
        (f"the size's {size.n_layer} layers", size.n_layer, "pipeline_parallel_degree", stages),
    ):
        if count % degree:
            fits = max(number for number in range(1, degree) if count % number == 0)
            raise ValueError(f"{what}: no multiple of parallel's {kind} {degree}; {fits} would do")
    if tensor > 1 and config.dtype == "fp8":
        raise ValueError("dtype 'fp8' is not computed on matrices that tensor_parallel_degree cuts; use 'bf16'")
    rows = config.global_batch // data
    if stages > 1 and (rows % config.micro_batch or rows // config.micro_batch < stages):
        raise ValueError(
            f"micro_batch {config.micro_batch} cuts the {rows} sequences of a pipeline into "
            f"{rows / config.micro_batch:g} parts, and its {stages} stages need a whole number of at least {stages}; "
            "lower micro_batch or raise global_batch"
        )
