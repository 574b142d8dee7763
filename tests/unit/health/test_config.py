# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from og.configfile import ConfigError
from og.health.__main__ import main
from og.health.config import check, load

GOOD: dict[str, Any] = {
    "role": "hasher",
    "heartbeat": "/run/og/hasher.heartbeat",
    "locator": "5f00:1:11::/64",
    "vips": ["2001:db8:1::80", "2001:db8:1:0::81/128"],
}


def test_defaults_are_the_documented_ones() -> None:
    config = check(GOOD)
    assert config.vips == ("2001:db8:1::80/128", "2001:db8:1::81/128")
    assert config.listen == ("127.0.0.1", 9441)
    assert config.gobgp_api == Path("/run/gobgp/api.sock")
    assert (config.limits.poll, config.limits.stall) == (50, 200)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "agent"}, 'role: expected one of hasher, router, got "agent"'),
        ({"locator": "5f00::zz"}, 'locator: not an IPv6 prefix: "5f00::zz"'),
        ({"locator": "5f00:1:11::/48"}, "locator: expected a /64"),
        ({"locator": "5f00:1:11::1/64"}, "locator: not an IPv6 prefix"),
        ({"locator": 7}, "locator: not an IPv6 prefix: 7"),
        ({"vips": ["2001:db8:1::80", "2001:db8:1::/64"]}, r"vips\[1\]: expected a /128"),
        ({"vips": "2001:db8:1::80"}, "vips: expected a list"),
        ({"role": "router"}, "vips: a router announces none"),
        ({"heartbeat": ""}, "heartbeat: expected a non-empty string"),
        ({"gobgp_api": "127.0.0.1:50051"}, "gobgp_api: expected unix:///absolute/path"),
        ({"listen": "0.0.0.0:9441"}, "listen: expected a loopback address"),
        ({"listen": "127.0.0.1"}, "listen: expected ADDRESS:PORT"),
        ({"listen": "127.0.0.1:99999"}, "listen: expected a loopback address and a port"),
        ({"poll_ms": 0}, "poll_ms: expected 5 to 1000 milliseconds, got 0"),
        ({"poll_ms": True}, "poll_ms: expected 5 to 1000 milliseconds, got true"),
        ({"stall_ms": 60}, r"stall_ms: 60 is below twice poll_ms \(50\)"),
        ({"hold_up_ms": 20_000}, "hold_up_max_ms: 10000 is below hold_up_ms"),
        ({"stall": 1}, "stall: unknown option"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(ConfigError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["role", "heartbeat", "locator"])
def test_a_missing_option_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        check({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "expected a JSON object"), ("\x00", "not JSON")])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "health.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(path)


def test_check_config_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps(GOOD))
    assert main(["--config", str(path), "--check-config"]) == 0
    path.write_text(json.dumps(GOOD | {"role": "client"}))
    assert main(["--config", str(path), "--check-config"]) == 2
    assert "role: expected one of" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "none.json"), "--check-config"]) == 2
    assert "none.json: No such file" in capsys.readouterr().err


def test_help_names_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--check-config", "--withdraw", "--drain", "--undrain"))


def test_withdrawing_without_gobgp_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "health.json"
    path.write_text(json.dumps(GOOD | {"gobgp_api": f"unix://{tmp_path}/none.sock"}))
    assert main(["--config", str(path), "--withdraw"]) == 0
    assert "nothing to withdraw" in capsys.readouterr().err


def test_drain_and_undrain_leave_a_file_and_remove_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "health.json"
    mark = tmp_path / "health.drain"
    path.write_text(json.dumps(GOOD | {"drain_file": str(mark)}))
    for action, there in (("--drain", True), ("--drain", True), ("--undrain", False), ("--undrain", False)):
        assert main(["--config", str(path), action]) == 0
        assert mark.exists() == there
    path.write_text(json.dumps(GOOD | {"drain_file": str(tmp_path / "none" / "health.drain")}))
    assert main(["--config", str(path), "--drain"]) == 1
    assert "No such file" in capsys.readouterr().err
