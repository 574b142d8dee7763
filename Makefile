# SPDX-License-Identifier: Apache-2.0
# What a person does with this repository. `make` alone lists it.

TOPOLOGY ?= failover
ANSIBLE_ARGS ?=
FUZZ_SECONDS ?= 600
SCALE ?= 50 200
# A folder of captures (*.pcap) for the tests of the data plane and the fuzzers; without one those tests are skipped.
OG_VECTORS ?= $(wildcard ../shared/vectors)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

comma := ,
BIN := .venv/bin
STEP := scripts/step
# failover: two sites; recovery: one. Any other is the name of a folder below inventories/.
INVENTORY := inventories/$(patsubst failover,lab,$(TOPOLOGY))
PLAY := env ANSIBLE_CALLBACKS_ENABLED=og_phases $(BIN)/ansible-playbook -i $(INVENTORY) $(ANSIBLE_ARGS)
INVENTORIES := $(filter-out inventories/_shared,$(wildcard inventories/*))
PLAYBOOKS := site.yml $(wildcard playbooks/*.yml) $(wildcard molecule/*/converge.yml)
# Of Molecule what CI has time for: the roles without container tests of their own, and gobgp, which they stand on.
CI_SCENARIOS := gobgp og_hasher og_router
DRILLS := $(patsubst playbooks/drill_%.yml,%,$(wildcard playbooks/drill_*.yml))
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# A container with compilers and the repository at /src. It may make namespaces, interfaces and BPF programs of its own.
IN_BUILD := docker run --rm --init --cap-add ALL --cap-drop SYS_RESOURCE \
	--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
	--sysctl net.ipv6.conf.all.disable_ipv6=0 --sysctl net.ipv6.conf.default.disable_ipv6=0 \
	$(if $(OG_VECTORS),--mount type=bind$(comma)source=$(abspath $(OG_VECTORS))$(comma)target=/vectors$(comma)readonly --env OG_VECTORS=/vectors) \
	--volume $(CURDIR):/src --workdir /src --env PYTHONDONTWRITEBYTECODE=1 --env CI og-build:latest

.PHONY: help bootstrap lab site images status smoke test unit lint native native-test bpf-test container-test lab-test drill-test \
	drill molecule test-all bench scale fuzz clean-lab clean

help: ## this list
	@echo "Occam Gateway: make TARGET [TOPOLOGY=$(TOPOLOGY)] [ANSIBLE_ARGS='--check --diff']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bootstrap: ## what the controller needs: Debian packages, Python packages in .venv
	@$(STEP) "Prepare this machine" "see the message above; scripts/bootstrap can be run again" scripts/bootstrap

lab: bootstrap ## the lab, everything deployed, and a proven request through it
	@[ -d $(INVENTORY) ] || { echo "There is no $(INVENTORY). TOPOLOGY is one of: failover recovery"; exit 2; }
	@$(STEP) "Bring up and deploy the lab '$(TOPOLOGY)' (ansible-playbook site.yml -i $(INVENTORY))" \
		"mend what the failed task names, then run 'make lab' again: it goes on where it stopped. From nothing: make clean-lab lab" \
		$(PLAY) site.yml
	@$(STEP) "Prove requests through the gateway" \
		"'make status' shows the nodes; docs/operating.md says where to look next" \
		$(BIN)/python -m tests.lab.smoke --requests 2000 --connections 2000
	@$(MAKE) status
	@echo
	@echo "Next:  make smoke      10,000 requests, judged by clients and captures"
	@echo "       make test       all tests, this lab included"
	@echo "       docker exec -it oglab-ogr-w1 bash        a router; try: ogctl status"
	@echo "       make clean-lab  remove it all"

site: ## deploy to the lab that is up, without the proof (ANSIBLE_ARGS='--check --diff' only shows)
	@$(STEP) "Deploy '$(TOPOLOGY)'" "mend what the failed task names and run it again" $(PLAY) site.yml

images: bootstrap ## the images og-base, og-node and og-build
	@$(STEP) "Build the images" "see the failed task above" $(PLAY) playbooks/lab_images.yml

status: ## the nodes: role, state, address, what runs
	@$(BIN)/python scripts/lab_table.py

smoke: ## 10,000 requests of each site's client, as one JSON line per site
	@$(BIN)/python -m tests.lab.smoke

drill: ## break something under load and judge what clients saw: DRILL=failover ... (docs/drills.md); DRILL_SHORT=1: a smaller load
	@[ -f playbooks/drill_$(DRILL).yml ] || { echo "DRILL is one of: $$(ls playbooks | sed -n 's/^drill_\(.*\)\.yml$$/\1/p' | xargs)"; exit 2; }
	@$(STEP) "Drill $(DRILL)" "build/reports/$(DRILL)/report.json has the reasons" $(PLAY) playbooks/drill_$(DRILL).yml

lint: images ## ruff, mypy, yamllint, ansible-lint, syntax of every playbook, documentation, shellcheck, clang's tools
	@$(STEP) "ruff" "run '.venv/bin/ruff check --fix .' and read what is left" $(BIN)/ruff check .
	@$(STEP) "mypy" "see the lines above" $(BIN)/mypy
	@$(STEP) "yamllint" "see the lines above" $(BIN)/yamllint --strict .
	@$(STEP) "ansible-lint" "see the lines above" $(BIN)/ansible-lint --offline --profile production
	@mkdir -p build
	@for inventory in $(INVENTORIES); do \
		$(STEP) "Syntax of every playbook with $$inventory" "see the lines above" \
			$(BIN)/ansible-playbook --syntax-check -i $$inventory $(PLAYBOOKS) >build/syntax.log || { cat build/syntax.log; exit 1; }; \
	done
	@$(STEP) "Documentation of every module and role" "ansible-doc names the file above" \
		$(BIN)/ansible-doc -t module -M library $(basename $(notdir $(wildcard library/*.py))) >/dev/null
	@$(BIN)/ansible-doc -t role -r roles $(notdir $(wildcard roles/*)) >/dev/null
	@$(STEP) "shellcheck" "lines are those of the original; shellcheck.net/wiki/SC<number> explains a finding" $(IN_BUILD) sh -ec \
		'python3 scripts/shell_sources.py build/shell >build/shell.list; cd build/shell; xargs shellcheck --external-sources <../shell.list'
	@$(STEP) "clang-format" "run 'clang-format -i FILE' in a container of og-build" $(IN_BUILD) sh -ec \
		'clang-format-19 --dry-run --Werror $$(find native bpf -name "*.[ch]")'
	@$(STEP) "clang-tidy" "see the lines above; what is checked is in .clang-tidy" $(IN_BUILD) scripts/native_lint.py tidy
	@$(STEP) "scan-build" "see the lines above; the page of the last line shows each step to a finding" \
		$(IN_BUILD) scripts/native_lint.py scan

unit: bootstrap ## tests that need nothing but Python and network namespaces
	@$(STEP) "Unit tests" "run one alone: .venv/bin/pytest tests/unit -k NAME" $(BIN)/pytest tests/unit

native: images ## compile the data plane into build/native
	@$(STEP) "Compile the data plane" "see the compiler's lines above" $(IN_BUILD) sh -c \
		'[ -f build/native/build.ninja ] || meson setup build/native native --buildtype=release; ninja -C build/native'

native-test: native ## the data plane: scapy as oracle, Hypothesis, namespaces, short fuzzing under sanitizers
	@$(STEP) "Tests of the data plane" "run one alone in a container of og-build: pytest native/tests -k NAME" \
		$(IN_BUILD) python3 -m pytest native/tests

bpf-test: images ## the agent's programs and daemon in namespaces
	@$(STEP) "Tests of the agent's programs" "run one alone in a container of og-build: pytest tests/bpf -k NAME" \
		$(IN_BUILD) python3 -m pytest tests/bpf

container-test: images ## roles on containers of their own
	@$(STEP) "Tests of roles on containers" "run one folder alone with .venv/bin/pytest" \
		$(BIN)/pytest $(wildcard tests/network tests/services tests/agent_role)

lab-test: ## the lab that is up: smoke, packets on the wire, failures, dashboards
	@$(STEP) "Tests of the lab" "'make status' shows the nodes; run one alone: .venv/bin/pytest tests/lab -k NAME" \
		$(BIN)/pytest tests/lab --ignore tests/lab/test_drills.py

drill-test: ## the lab that is up: the short form of every drill but those of releases, failover three times
	@$(STEP) "Drills in their short form" "run one alone: .venv/bin/pytest tests/lab/test_drills.py -k NAME" \
		$(BIN)/pytest tests/lab/test_drills.py

molecule: images ## each role on containers of its own, from a bare host to behaviour: ROLE=og_router for one, or several
	@$(STEP) "Molecule $(or $(ROLE),(all scenarios))" "build/molecule/<scenario>.log has all of it; .venv/bin/molecule -c .config/molecule/config.yml converge -s SCENARIO leaves the containers up" \
		$(BIN)/python scripts/molecule_run.py $(ROLE)

test: ## everything that can be tested in CI's time, the lab included
	@$(MAKE) lint unit native-test bpf-test container-test
	@$(MAKE) molecule ROLE='$(CI_SCENARIOS)'
	@$(MAKE) lab
	@$(STEP) "A second run changes nothing" "the tasks that say 'changed' above are not idempotent" scripts/unchanged $(PLAY) site.yml
	@$(MAKE) lab-test drill-test

test-all: ## test, every Molecule scenario, every drill with its whole load
	@$(MAKE) test molecule
	@for drill in $(DRILLS); do $(MAKE) drill DRILL=$$drill; done

bench: native ## ns per packet: data plane, agent programs, tables; JSON and a picture in build/bench
	@$(STEP) "Measure the data plane" "see the lines above" $(IN_BUILD) python3 native/bench/run.py --output build/bench
	@$(STEP) "Measure the agent's programs" "see the lines above" $(IN_BUILD) sh -c \
		'python3 bpf/bench/run.py >build/bench/agent.json && cat build/bench/agent.json'

scale: bootstrap ## what a --check run over 50 and 200 generated hosts costs the controller, and how that grows (SCALE="50 200")
	@$(STEP) "Measure --check runs over hosts that are not there" "the run's log is in build/scale" $(BIN)/python -m tests.scale $(SCALE)

fuzz: images ## every parser under libFuzzer and sanitizers, FUZZ_SECONDS each
	@$(STEP) "Fuzz for $(FUZZ_SECONDS) s each" "the reproducer's path is above" \
		$(IN_BUILD) python3 -m native.fuzz.run --seconds $(FUZZ_SECONDS)

clean-lab: bootstrap ## remove the lab: containers, cables, an engine that was started for it
	@$(STEP) "Remove the lab" "docker ps -a --filter label=org.occam-gateway.lab lists what is left" $(PLAY) playbooks/lab_down.yml

clean: clean-lab ## and what was built: images, build/, .venv
	@command -v docker >/dev/null && docker image ls --quiet --filter label=org.occam-gateway.image | sort -u \
		| xargs --no-run-if-empty docker image rm --force >/dev/null || true
	rm -rf build .venv
