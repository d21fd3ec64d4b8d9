"""The training stages as tasks."""

from pipelines.alignment.align import ALIGN
from pipelines.alignment.reward import REWARD
from pipelines.compression.distill import DISTILL
from pipelines.finetuning.chat import CHAT
from pipelines.finetuning.sft import SFT
from pipelines.pretraining.pretrain import PRETRAIN
from tasks.bridge import as_task

pretrain = as_task(PRETRAIN)
chat = as_task(CHAT)
sft = as_task(SFT)
reward = as_task(REWARD)
align = as_task(ALIGN)
distill = as_task(DISTILL)
