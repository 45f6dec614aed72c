"""The GitHub workflows: GitHub would take them, actions are pinned, rights are few, and what their steps run works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fix_lab import ROOT, Project

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
PINNED = re.compile(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
TOOLS = Path(sys.executable).parent
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def test_github_would_take_the_workflows() -> None:
    schema = ["--builtin-schema", "vendor.github-workflows"]
    done = tool(str(TOOLS / "check-jsonschema"), *schema, *map(str, WORKFLOWS))
    assert done.returncode == 0, done.stdout
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "preview.yml"]


def test_the_workflows_have_no_known_weakness() -> None:
    done = tool(str(TOOLS / "zizmor"), "--offline", "--quiet", *map(str, WORKFLOWS))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_name_their_version(path: Path) -> None:
    uses = [line.strip(" -") for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


def test_rights_are_given_job_by_job_and_only_those_needed() -> None:
    assert all(workflow(path.name)["permissions"] == {} for path in WORKFLOWS)
    jobs = {name: job["permissions"] for path in WORKFLOWS for name, job in workflow(path.name)["jobs"].items()}
    assert jobs == {
        "lint": {"contents": "read"},
        "ci": {"contents": "read"},
        "preview": {"contents": "read", "id-token": "write"},
        "fork": {"contents": "read"},
        "comment": {"pull-requests": "write"},
    }


# Keeps comments as files; answers what the step asks `gh api` for, with the step's own filter run by jq's rules here.
GH = r"""#!/usr/bin/env python3
import json, os, pathlib, sys
store = pathlib.Path(os.environ["STORE"])
arguments = sys.argv[1:]
comments = json.loads(store.read_text()) if store.exists() else [
    {"id": 1, "user": {"login": "somebody"}, "body": "<!-- orchestrator preview -->\nnot ours"},
    {"id": 2, "user": {"login": "github-actions[bot]"}, "body": "another workflow's"},
]
path = next(a for a in arguments if a.startswith("repos/"))
if "--method" not in arguments:
    assert path == "repos/contoso/clusters/issues/7/comments" and "--paginate" in arguments
    query = arguments[arguments.index("--jq") + 1]
    assert 'github-actions[bot]' in query and "<!-- orchestrator preview -->" in query
    for c in comments:
        if c["user"]["login"] == "github-actions[bot]" and c["body"].startswith("<!-- orchestrator preview -->"):
            print(c["id"])
    sys.exit(0)
body = pathlib.Path(next(a for a in arguments if a.startswith("body=@"))[6:]).read_text()
if arguments[arguments.index("--method") + 1] == "POST":
    assert path == "repos/contoso/clusters/issues/7/comments"
    comments.append({"id": len(comments) + 1, "user": {"login": "github-actions[bot]"}, "body": body})
else:
    number = int(path.rsplit("/", 1)[1])
    assert path == f"repos/contoso/clusters/issues/comments/{number}"
    comments[number - 1]["body"] = body
store.write_text(json.dumps(comments))
"""


def test_one_comment_is_made_and_then_updated_in_place(tmp_path: Path) -> None:
    step = workflow("preview.yml")["jobs"]["comment"]["steps"][-1]["run"]
    executable(tmp_path / "bin" / "gh", GH)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "STORE": str(tmp_path / "comments.json"),
        "GITHUB_REPOSITORY": "contoso/clusters",
        "PULL_REQUEST": "7",
    }
    for text in ("first `$(touch oops)`", "second"):
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step]
        subprocess.run(command, cwd=tmp_path, env=environment | {"COMMENT": text}, check=True, timeout=30)
    comments = yaml.safe_load((tmp_path / "comments.json").read_text("utf-8"))
    assert [comment["body"].splitlines()[-1] for comment in comments] == ["not ours", "another workflow's", "second"]
    assert not (tmp_path / "oops").exists()


# The engine has tests of its own: here it is enough that it is asked about the right stack and its answer is shown.
PULUMI = """#!/usr/bin/env bash
[ "$1 $2" = "preview --stack" ] && [[ " $* " == *" --non-interactive "* ]] || exit 64
if [ "$3" = broken ]; then echo "error: no such backend"; exit 255; fi
echo "~ azure-native:dbforpostgresql:Server: (update) of $3"
"""


def checkout(project: Project) -> dict[str, str]:
    """The project as a repository whose last commit is its first; `pulumi` and `orchestrator` on the PATH."""
    executable(project.folder / ".ci" / "preview", (ROOT / ".ci" / "preview").read_text("utf-8"))
    executable(project.folder / "bin" / "pulumi", PULUMI)
    (project.folder / ".gitignore").write_text("bin/\n.secrets/\n", "utf-8")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *command], cwd=project.folder, check=True, timeout=30)
    return project.environment | {"PATH": f"{project.folder / 'bin'}:{TOOLS}:{os.environ['PATH']}"}


def commit_and_preview(
    project: Project, environment: dict[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    subprocess.run([*GIT, "add", "."], cwd=project.folder, check=True, timeout=30)
    subprocess.run([*GIT, "commit", "-qm", "next"], cwd=project.folder, check=True, timeout=30)
    command = [str(project.folder / ".ci" / "preview"), *options, "HEAD^"]
    return subprocess.run(
        command, cwd=project.folder.parent, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_changed_stack_is_previewed_with_nodes_services_and_moves(lab_project: tuple[Project, str]) -> None:
    project, _engine = lab_project
    environment = checkout(project)
    stack = project.folder / "stacks" / "Pulumi.local.yaml"
    stack.write_text(stack.read_text("utf-8").replace("elastic-cluster:nodes: 4", "elastic-cluster:nodes: 8"), "utf-8")
    done = commit_and_preview(project, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Stack `local`\n")
    assert "grow the cluster from 4 to 8 nodes" in done.stdout
    assert "create role user_service" in done.stdout
    assert "(update) of local" in done.stdout


def test_a_fork_gets_its_preview_from_the_snapshot_of_the_branch_it_goes_to(
    lab_project: tuple[Project, str],
) -> None:
    project, _engine = lab_project
    saved = project.folder / "stacks" / "snapshots" / "local.json"
    saved.parent.mkdir()
    project.call("snapshot", "-o", str(saved))
    environment = {
        name: value for name, value in checkout(project).items() if not name.startswith(("ARM_", "AZURE_", "PULUMI_"))
    }
    (project.folder / "bin" / "pulumi").unlink()
    saved.write_text("{}", "utf-8")
    stack = project.folder / "stacks" / "Pulumi.local.yaml"
    text = stack.read_text("utf-8").replace("elastic-cluster:nodes: 4", "elastic-cluster:nodes: 8")
    # A fork reaches neither the cluster nor Azure: nothing listens on port 1.
    text, ports = re.subn(r"(direct: |balanced: |pooled: |127\.0\.0\.1:)\d+", r"\g<1>1", text)
    assert ports >= 3
    stack.write_text(text, "utf-8")
    done = commit_and_preview(project, environment, "--snapshots")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Stack `local`\n")
    assert "4 → 8" in done.stdout or "4 -> 8" in done.stdout
    assert "From the cluster as it was saved on 20" in done.stdout


def test_only_stacks_that_are_touched_are_previewed(project: Project) -> None:
    for name in ("dev", "broken"):
        (project.folder / "stacks" / f"Pulumi.{name}.yaml").write_text(
            "config:\n  elastic-cluster:name: elk1\n  elastic-cluster:resourceGroup: rg\n"
            "  elastic-cluster:location: northeurope\n", "utf-8"
        )  # fmt: skip
    environment = checkout(project)
    (project.folder / "README.md").write_text("x", "utf-8")
    done = commit_and_preview(project, environment)
    assert (done.returncode, done.stdout) == (0, "No stack is changed.\n")

    dev = project.folder / "stacks" / "Pulumi.dev.yaml"
    dev.write_text(dev.read_text("utf-8") + "  elastic-cluster:nodes: 4\n", "utf-8")
    done = commit_and_preview(project, environment)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("## ")] == ["## Stack `dev`"]
    assert "ORCHESTRATOR_ADMIN_PASSWORD is not set" in done.stdout


def test_a_change_of_the_program_previews_every_stack_and_one_that_fails_fails_the_check(project: Project) -> None:
    for name in ("dev", "broken"):
        (project.folder / "stacks" / f"Pulumi.{name}.yaml").write_text("config: {}\n", "utf-8")
    environment = checkout(project)
    (project.folder / "infra").mkdir()
    (project.folder / "infra" / "__main__.py").write_text("", "utf-8")
    done = commit_and_preview(project, environment)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("## ")] == [
        "## Stack `broken`",
        "## Stack `dev`",
    ]
    assert "pulumi preview failed" in done.stdout
    assert "error: no such backend" in done.stdout


def test_a_commit_that_is_not_there_is_no_empty_preview(project: Project) -> None:
    environment = checkout(project)
    command = [str(project.folder / ".ci" / "preview"), "0123456789012345678901234567890123456789"]
    done = subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "No stack is changed" not in done.stdout
