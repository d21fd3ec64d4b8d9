"""The special tokens, in the order of their ids."""

BOS = "<|bos|>"
PAD = "<|pad|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"

ROLES = ("system", "user", "assistant")
"""Who speaks in a conversation; each has a token."""

SPECIAL_TOKENS = (BOS, PAD, SYSTEM, USER, ASSISTANT, END)
"""A token's place is its id. `<|end|>` closes a turn and is the end of a sequence; `<|pad|>` never is."""

MARKER_PATTERN = r"<\|[a-z_]{1,32}\|>"
"""The form of every special token. Text is cut between marks and letters, so no learnt token ever looks like one."""
