"""How the processes of one run are arranged: a mesh of data, context, tensor and pipeline parallelism. No torch."""

from math import prod
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import StageConfig
from pipelines.models.architectures import Architecture
from pipelines.models.sizes import Size
from pipelines.pretraining.settings import LoopConfig

REST = -1
DIMENSIONS = ("pp", "dp_replicate", "dp_shard", "tp")
"""The mesh from its slowest to its fastest dimension: neighbours, which talk most, are tensor parallel.

Neighbours along `dp_shard` have parts of the same sequences where contexts are cut: these share weights out as well.
"""


class ParallelConfig(StageConfig):
    """Into how many processes one run is spread, and what each degree of the mesh cuts; names are torchtitan's."""

    model_config = ConfigDict(title="Parallelism")
    degrees: ClassVar[tuple[str, ...]] = (
        "pipeline_parallel_degree",
        "data_parallel_replicate_degree",
        "data_parallel_shard_degree",
        "tensor_parallel_degree",
        "context_parallel_degree",
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
    context_parallel_degree: int = Field(
        1, ge=1, le=1024, description="Parts that each sequence is cut into, on GPUs; they share weights out as well."
    )
    expert_parallel_degree: int = Field(
        1, ge=1, le=1024, description="Shards that a mixture's experts are dealt out to: 1, or all shards."
    )
    cpu_offload: bool = Field(
        False, description="Keep weights, gradients and optimizer state in host memory, and step there."
    )
    engine: Literal["torch", "deepspeed"] = Field(
        "torch", description="What shares weights and optimizer state out: torch's FSDP2 and DDP, or DeepSpeed's ZeRO."
    )
    zero_stage: int | None = Field(
        None,
        ge=1,
        le=3,
        description="What DeepSpeed cuts: 1 the optimizer's state, 2 gradients too, 3 weights too; none takes 2.",
    )
    nodes: int = Field(1, ge=1, le=8192, description="Machines that the processes are on, equally many on each.")
    rendezvous_endpoint: str | None = Field(
        None, pattern=r"^[^\s:]+:\d{1,5}$", description="HOST:PORT of one node, where the agents of all nodes meet."
    )

    @property
    def shards(self) -> int:
        """Into how many parts weights and optimizer state of a copy are cut."""
        if self.data_parallel_shard_degree != REST:
            return self.data_parallel_shard_degree * self.context_parallel_degree
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
        return self.data_parallel_replicate_degree * self.shards // self.context_parallel_degree

    @property
    def is_spread(self) -> bool:
        """Whether the run is launched: several processes, or one whose state is held otherwise."""
        return self.processes > 1 or self.cpu_offload or self.is_zero

    @property
    def is_zero(self) -> bool:
        """Whether DeepSpeed takes the steps."""
        return self.engine == "deepspeed"

    @property
    def can_compile(self) -> bool:
        """Whether blocks may be compiled: not where attention reaches beyond a process, nor by DeepSpeed."""
        return self.context_parallel_degree == 1 and not self.is_zero

    @property
    def stage_of_zero(self) -> int:
        """What DeepSpeed cuts, by the number of ZeRO's stage."""
        return self.zero_stage or 2

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP2 holds the weights; copies alone, of a model that is not cut, are DDP's."""
        if self.is_zero:
            return False
        return self.shards > 1 or self.cpu_offload or (self.cuts_model and self.data_parallel_replicate_degree > 1)

    @property
    def cuts_model(self) -> bool:
        """Whether no process has the model's blocks whole, not even for a while."""
        return self.tensor_parallel_degree * self.pipeline_parallel_degree > 1

    @property
    def cuts_weights(self) -> bool:
        """Whether processes hold parts of single weights."""
        return self.is_sharded or self.is_zero or self.tensor_parallel_degree > 1

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
        self._check_contexts()
        self._check_engine(named)
        if self.processes % self.nodes:
            raise ValueError(
                f"nodes: {self.nodes} do not get equally many of {self.processes} processes; change one of them"
            )
        if self.nodes > 1 and self.rendezvous_endpoint is None:
            raise ValueError(
                f"rendezvous_endpoint: None with nodes {self.nodes}; several nodes need the HOST:PORT of one of them"
            )
        return self

    def _check_contexts(self) -> None:
        if self.context_parallel_degree > 1 and (self.cuts_model or self.expert_parallel_degree > 1):
            raise ValueError(
                f"context_parallel_degree: {self.context_parallel_degree} goes with copies and shards alone; set it, "
                "or the tensor, pipeline and expert parallel degrees, to 1"
            )

    def _check_engine(self, named: str) -> None:
        if not self.is_zero and self.zero_stage is not None:
            raise ValueError(
                f"zero_stage: {self.zero_stage} is for the engine 'deepspeed' and this is {self.engine!r}; "
                "leave it empty, or set engine to 'deepspeed'"
            )
        if self.is_zero and (self.shards != self.processes or self.data_degree != self.processes):
            raise ValueError(
                f"engine: 'deepspeed' shares one copy out to all {self.processes} processes and the mesh is otherwise "
                f"({named}); set engine to 'torch', or these degrees to 1"
            )
        if self.is_zero and self.expert_parallel_degree > 1:
            raise ValueError(
                f"expert_parallel_degree: {self.expert_parallel_degree} is for the engine 'torch' and this is "
                "'deepspeed'; set it to 1"
            )


def is_like_llama(row: Architecture) -> bool:
    """Return whether the blocks are made of the parts, and under the names, that those of Llama are."""
    return row.kind == "causal" and row.gated and not (row.biased or row.learned_positions or row.experts)


def check_vocabulary(parallel: ParallelConfig, vocab_size: int) -> None:
    """Raise UserError unless each process of a tensor parallel group gets equally many token vectors."""
    degree = parallel.tensor_parallel_degree
    if vocab_size % degree:
        fits = max(number for number in range(1, degree) if vocab_size % number == 0)
        raise UserError(
            f"pretrain.parallel.tensor_parallel_degree: {degree} does not divide the vocabulary of {vocab_size:,}; "
            f"{fits} does, or train the tokenizer to {vocab_size + degree - vocab_size % degree:,}"
        )


def check_fit(parallel: ParallelConfig, row: Architecture, size: Size, config: LoopConfig) -> None:
    """Raise ValueError where the batch or a model of this size does not divide as the mesh asks."""
    data, tensor, stages = parallel.data_degree, parallel.tensor_parallel_degree, parallel.pipeline_parallel_degree
    if tensor * stages > 1 and not is_like_llama(row):
        raise ValueError(
            f"architecture {row.model_type!r} is not cut by parallel's tensor_parallel_degree {tensor} and "
            f"pipeline_parallel_degree {stages}, which are for blocks like Llama's; set both to 1"
        )
    contexts = parallel.context_parallel_degree
    if contexts > 1 and config.device == "cpu":
        raise ValueError(
            f"parallel's context_parallel_degree {contexts} needs GPUs, whose attention kernels it is made for, and "
            "device is 'cpu'; set device to 'cuda', or the degree to 1"
        )
    if contexts > 1 and config.sequence_length % (2 * contexts):
        fits = config.sequence_length - config.sequence_length % (2 * contexts) or 2 * contexts
        raise ValueError(
            f"sequence_length {config.sequence_length}: no multiple of {2 * contexts}, two pieces for each of "
            f"parallel's context_parallel_degree {contexts}; {fits} would do"
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
