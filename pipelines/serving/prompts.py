"""From a request to the ids that the model reads; a control marker that a user typed stays text."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import UserError
from pipelines.finetuning.chat import encode_chat
from pipelines.finetuning.contract import TEMPLATE_FILE
from pipelines.serving.refusal import Refusal
from pipelines.serving.schema import Message


class Prompter:
    """The tokenizer and the chat template of a served model."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        template = folder / TEMPLATE_FILE
        self.template = template.read_text(encoding="utf-8") if template.is_file() else None
        self._tokenizer = tokenizer
        self._plain = deepcopy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation, up to where the assistant is to speak; raise Refusal for what is none."""
        if self.template is None:
            raise Refusal(400, "this model has no chat template; use /v1/completions", code="no_chat_template")
        turns = [{"role": message.role, "content": message.text} for message in messages]
        try:
            ids, _ = encode_chat(self._tokenizer, turns, self.template, add_generation_prompt=True)
        except UserError as error:
            raise Refusal(400, str(error), param="messages", code="invalid_value") from None
        return ids

    def text(self, prompt: str) -> list[int]:
        """Return the ids of a text, after the token that begins every document."""
        ids: list[int] = self._plain.encode(prompt, add_special_tokens=False).ids
        return [self._tokenizer.bos_token_id, *ids]
