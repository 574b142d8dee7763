# SPDX-License-Identifier: Apache-2.0
"""What the role og_dataplane makes of processors, memory and the boot loader."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.errors import AnsibleFilterError

from filter_plugins.og_dataplane import og_lcores

ROLE = Path(__file__).resolve().parents[2] / "roles/og_dataplane"
ARGUMENTS = "isolcpus=2-5 nohz_full=2-5 rcu_nocbs=2-5"


@pytest.mark.parametrize(
    ("cpus", "threads", "lcores"),
    [
        ("2-5", 4, "0@2,1@3,2@4,3@5"),
        ("2,4,6", 3, "0@2,1@4,2@6"),
        ("2-3,8", "3", "0@2,1@3,2@8"),
        ("2-5", 1, "0@2"),
        ("3,2-4", 3, "0@3,1@2,2@4"),
        (1, 1, "0@1"),
    ],
)
def test_every_thread_has_a_processor_of_its_own(cpus: object, threads: object, lcores: str) -> None:
    assert og_lcores(cpus, threads) == lcores


def test_fewer_processors_than_threads() -> None:
    with pytest.raises(AnsibleFilterError, match="4 threads on 2 processors"):
        og_lcores("2-3", 4)


@pytest.mark.parametrize("cpus", ["2:5", "", "2-", "5-2", "5-2,7", "all"])
def test_no_list_of_processors(cpus: str) -> None:
    with pytest.raises(AnsibleFilterError, match="not a list of processors"):
        og_lcores(cpus, 1)


def render(text: str, **variables: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701 - no HTML
        trim_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"comment": "# {}".format, "bool": bool}
    return environment.from_string(text).render(variables)


def unit(name: str, **variables: Any) -> str:
    common = {
        "ansible_managed": "managed", "og_dataplane_role": "hasher", "og_dataplane_port": "pci",
        "og_dataplane_pci_address": "0000:3b:00.0", "og_dataplane_hugepages": 512, "og_dataplane_cpus": "2-5",
        "og_dataplane_nice": 0, "__og_dataplane_root": "/opt/og", "__og_dataplane_bin": "/opt/og/current/bin",
        "__og_dataplane_unit": "og-hasher", "__og_dataplane_own_prefixes": [],
        "__og_dataplane_device": "/sys/bus/pci/devices/0000:3b:00.0",
    }  # fmt: skip
    return render((ROLE / "templates" / name).read_text(), **common | variables)


def test_other_threads_keep_off_the_poll_threads_processors() -> None:
    text = unit("data.service.j2")
    assert "CPUAffinity" not in text
    assert text == unit("data.service.j2", og_dataplane_cpus="")
    assert "\nNice=0\n\n[Install]" in text


@pytest.mark.parametrize(
    ("numa_node", "reserved"), [("1", (0, 512, 0)), ("0", (512, 0, 0)), ("-1", (0, 0, 512)), (None, (0, 0, 512))]
)
def test_hugepages_are_reserved_on_the_node_of_the_nic(
    tmp_path: Path, numa_node: str | None, reserved: tuple[int, ...]
) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    if numa_node is not None:
        (device / "numa_node").write_text(f"{numa_node}\n")
    nodes = [tmp_path / f"sys/devices/system/node/node{number}/hugepages" for number in (0, 1)]
    files = [path / "hugepages-2048kB/nr_hugepages" for path in (*nodes, tmp_path / "sys/kernel/mm/hugepages")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("0\n")
    lines = unit("routes.service.j2").replace("\\\n", " ").splitlines()  # as systemd joins them
    (line,) = (line for line in lines if "nr_hugepages" in line and line.startswith("ExecStart="))
    command = line.removeprefix("ExecStart=/bin/sh -c '").removesuffix("'").replace("$$", "$")
    subprocess.run(["sh", "-c", command.replace("/sys/", f"{tmp_path}/sys/")], check=True, capture_output=True)
    assert tuple(int(file.read_text()) for file in files) == reserved


def test_no_hugepages_no_line() -> None:
    assert "hugepages" not in unit("routes.service.j2", og_dataplane_hugepages=0)


@pytest.mark.parametrize(
    ("loader", "kernel", "found"),
    [
        (None, "quiet", []),
        ("linux /vmlinuz ro quiet", "quiet", []),
        (f"linux /vmlinuz ro {ARGUMENTS}", "quiet", ["loader"]),
        (f"linux /vmlinuz ro {ARGUMENTS}", f"ro {ARGUMENTS}", ["loader", "kernel"]),
        (f"linux /vmlinuz ro {ARGUMENTS.replace('2-5', '2-5,8')}", "quiet", []),
    ],
)
def test_what_the_boot_loader_lacks_is_read_from_the_host(
    tmp_path: Path, loader: str | None, kernel: str, found: list[str]
) -> None:
    *_, look, update, say = yaml.safe_load((ROLE / "tasks/isolate.yml").read_text())
    (tmp_path / "cmdline").write_text(kernel)
    if loader is not None:
        (tmp_path / "grub.cfg").write_text(loader)
    script = render(look["ansible.builtin.shell"], __og_dataplane_kernel_arguments=ARGUMENTS)
    for path in ("/boot/grub/grub.cfg", "/proc/cmdline"):
        script = script.replace(path, str(tmp_path / Path(path).name))
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == found
    assert (look["changed_when"], look["check_mode"]) == (False, False)
    assert update["ansible.builtin.command"]["cmd"] == "update-grub"
    for task, word in ((update, "loader"), (say, "kernel")):
        due = render(f"{{{{ {task['when']} }}}}", __og_dataplane_isolated={"stdout_lines": found})
        assert due == str(word not in found)


def test_processors_are_given_back_also_after_a_run_that_was_cut_off(tmp_path: Path) -> None:
    task = yaml.safe_load((ROLE / "tasks/share.yml").read_text())[0]["ansible.builtin.shell"]
    script = task["cmd"].replace("/etc/default/grub.d", str(tmp_path))
    (tmp_path / "60-og.cfg").write_text("GRUB_CMDLINE_LINUX=isolcpus=2-5\n")

    def run(loader: str) -> int:
        (tmp_path / "update-grub").write_text(f"#!/bin/sh\n{loader}\n")
        (tmp_path / "update-grub").chmod(0o755)
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", script], env=path, capture_output=True, check=False).returncode

    assert run("exit 1") != 0
    assert [file.name for file in tmp_path.glob(Path(task["removes"]).name)] == ["60-og.cfg.off"], "it runs again"
    assert run(f"test ! -e {tmp_path}/60-og.cfg") == 0
    assert list(tmp_path.glob("60-og*")) == []
