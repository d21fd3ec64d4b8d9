"""The training stages as tasks."""

from pipelines.alignment.align import ALIGN
from pipelines.alignment.reward import REWARD
from pipelines.compression.distill import DISTILL
from pipelines.finetuning.chat import CHAT
from pipelines.finetuning.sft import SFT
from pipelines.pretraining.pretrain import PRETRAIN
from tasks.bridge import as_task

pretrain = as_task(PRETRAIN, tags=("training",))
chat = as_task(CHAT, tags=("training",))
sft = as_task(SFT, tags=("training",))
reward = as_task(REWARD, tags=("training",))
align = as_task(ALIGN, tags=("training",))
distill = as_task(DISTILL, tags=("training",))
