"""Ranges of figures in a report: pydantic checks them when it reads a report, and writes them into the JSON schema."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1.01, le=1.01)]
"""With room for rounding."""
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
"""A SHA-256, empty for a network that came from no file."""
