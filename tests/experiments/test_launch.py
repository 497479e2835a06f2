"""The launchers are well-formed, and do with each exit code of a run what it asks for; the clusters
are stand-ins.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from jaxgen import arguments
from jaxgen.commands import common, train

LAUNCH = Path(__file__).resolve().parents[2] / "experiments" / "launch"
SCRIPTS = ("tpu_pod.sh", "slurm.sbatch")

# the fields that the manifest may use, as the APIs (jobset.x-k8s.io/v1alpha2, batch/v1, core/v1)
# document them
JOBSET = {
    "replicatedJobs",
    "failurePolicy",
    "network",
    "startupPolicy",
    "successPolicy",
    "suspend",
    "ttlSecondsAfterFinished",
}
FAILURE = {"maxRestarts", "restartStrategy", "rules"}
FAILURE_RULE = {"name", "action", "onJobFailureReasons", "targetReplicatedJobs"}
JOB = {
    "parallelism",
    "completions",
    "completionMode",
    "backoffLimit",
    "podFailurePolicy",
    "template",
    "activeDeadlineSeconds",
}
POD = {
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "nodeSelector",
    "containers",
    "volumes",
    "tolerations",
}
CONTAINER = {
    "name",
    "image",
    "workingDir",
    "command",
    "args",
    "ports",
    "env",
    "resources",
    "volumeMounts",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_shell_syntax(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", LAUNCH / name], check=True)
    usage = (LAUNCH / name).read_text().split("\n#SBATCH")[0].split("\nset ")[0]
    assert "resume after a pre-emption" in usage


@pytest.fixture
def cluster(tmp_path):
    """(commands by name) -> an environment where these shell scripts stand for the cluster's
    commands; each call of one is a line of calls.txt."""

    def build(**commands):
        for name, script in commands.items():
            path = tmp_path / name
            path.write_text(
                f'#!/usr/bin/env bash\necho "{name} $*" >> {tmp_path}/calls.txt\n{script}\n'
            )
            path.chmod(0o755)
        return {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "PROJECT": "p",
        }

    build.calls = lambda: (tmp_path / "calls.txt").read_text().splitlines()
    return build


@pytest.mark.parametrize(
    "code, again", [(0, False), (2, False), (75, True), (134, True), (143, True)]
)
def test_slurm_tries_again_what_may_work_the_next_time(code, again, cluster):
    env = cluster(srun=f"exit {code}", scontrol="")
    assert (
        subprocess.run(["bash", LAUNCH / "slurm.sbatch"], env=env, capture_output=True).returncode
        == code
    )
    assert ("scontrol requeue 7" in cluster.calls()) == again
    assert (
        f" train --config=configs/cifar10/dit.py --workdir={env['HOME']}/runs/dit "
        in cluster.calls()[0]
    )


def test_slurm_hands_the_signal_on_waits_and_requeues(cluster):
    env = cluster(
        srun="trap 'sleep 0.3; exit 143' TERM\nfor i in {1..200}; do sleep 0.05; done", scontrol=""
    )
    process = subprocess.Popen(
        ["bash", LAUNCH / "slurm.sbatch"], env=env, stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143 and "after a signal" in process.stderr.read()
    assert cluster.calls()[-1] == "scontrol requeue 7"


def test_a_pod_that_is_gone_is_made_again_until_training_is_done(cluster, tmp_path):
    env = cluster(
        gcloud='case "$*" in *describe*) cat state 2>/dev/null;; *create*) echo READY > state;; '
               '*"jaxgen train"*) '
        "[[ -e tried ]] && exit 0; touch tried; rm state; exit 255;; esac",
        sleep="", git="echo https://example.org/jaxgen.git",
    )  # fmt: skip
    assert (
        subprocess.run(
            ["bash", LAUNCH / "tpu_pod.sh", "watch"], env=env, cwd=tmp_path, capture_output=True
        ).returncode
        == 0
    )
    kinds = [
        call.split()[4]
        for call in cluster.calls()
        if call.startswith("gcloud") and "describe" not in call
    ]
    assert kinds == ["delete", "create", "ssh", "ssh"] * 2


def test_a_run_that_cannot_work_is_not_tried_again_on_a_pod(cluster, tmp_path):
    env = cluster(
        gcloud='case "$*" in *describe*) echo READY;; *"jaxgen train"*) exit 2;; esac',
        git="echo here",
    )
    assert (
        subprocess.run(
            ["bash", LAUNCH / "tpu_pod.sh", "watch"], env=env, cwd=tmp_path, capture_output=True
        ).returncode
        == 2
    )
    assert len(cluster.calls()) == 3


def test_the_jobset():
    manifest = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert (
        set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        and set(manifest["spec"]) <= JOBSET
    )
    failure = manifest["spec"]["failurePolicy"]
    assert set(failure) <= FAILURE and failure["maxRestarts"] > 0
    (rule,) = failure["rules"]
    assert set(rule) <= FAILURE_RULE
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    job = replicated["template"]["spec"]
    assert (
        set(job) <= JOB
        and job["completionMode"] == "Indexed"
        and job["parallelism"] == job["completions"]
    )
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "jaxgen", "operator": "In", "values": [2]},
    }
    pod = job["template"]["spec"]
    assert set(pod) <= POD and pod["restartPolicy"] == "Never", "a podFailurePolicy asks for it"
    (container,) = pod["containers"]
    assert set(container) <= CONTAINER and container["name"] == rule["onExitCodes"]["containerName"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    flags = [argument for argument in container["args"] if not argument.startswith("--workdir")]
    values = arguments.parse(flags[0], train, flags[1:])  # the flags are those of jaxgen
    assert common.file_config(values).parallel.fsdp == -1
