"""Where a command finds the system it works on."""

import pytest

from tools.environment import setting
from tools.failures import CommandFailed


@pytest.fixture
def embedded(monkeypatch, tmp_path):
    """An embedded stack that was started once, and an environment that names no system."""
    for name in ("AMQP_URL", "STORAGE_URL", "CREDITS_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    (tmp_path / "env").write_text("AMQP_URL=amqp://embedded\nSTORAGE_URL=file:///embedded\n")


@pytest.mark.usefixtures("embedded")
def test_without_any_setting_the_embedded_stack_is_meant():
    assert setting("STORAGE_URL") == "file:///embedded"


@pytest.mark.usefixtures("embedded")
def test_a_shell_that_has_loaded_the_stacks_settings_means_it_too(monkeypatch):
    monkeypatch.setenv("AMQP_URL", "amqp://embedded")

    assert setting("STORAGE_URL") == "file:///embedded"


@pytest.mark.usefixtures("embedded")
def test_one_part_of_another_system_is_never_mixed_with_the_embedded_rest(monkeypatch):
    monkeypatch.setenv("AMQP_URL", "amqp://production")

    assert setting("AMQP_URL") == "amqp://production"
    with pytest.raises(CommandFailed, match="STORAGE_URL is not set"):
        setting("STORAGE_URL")
