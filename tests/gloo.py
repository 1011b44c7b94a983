"""Two processes on the CPU in the place of two GPUs, for the tests of parallel training (test_ddp.py).

Only devices and backend differ: ultralytics' own launcher starts the processes, and they run its loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist, nn
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK

from optisar_yolo.engine.train import GroundingTrainer
from optisar_yolo.text.encoder import TextEncoder
from optisar_yolo.utils import distributed as ranks

WORLD = 2
RECORDS = "OPTISAR_TEST_RECORDS"  # environment variable: folder for what each process has seen
LIMIT = 100  # seconds of a run


def fingerprint(tensors: dict[str, torch.Tensor]) -> str:
    """Digest of tensors, names included: equal only if every bit is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class GlooTrainer(GroundingTrainer):
    """The trainer in two processes; each leaves a record of what it drew, learned, encoded and wrote."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        self.record: dict[str, Any] = {"drawn": [], "validated": [], "encoded": 0, "written": []}
        super().__init__(cfg, overrides, _callbacks)
        self.world_size = WORLD
        self.ddp = LOCAL_RANK == -1
        if not self.ddp:
            self._watch()

    def _watch(self) -> None:
        """Note expressions encoded before the first batch, and files opened or moved in the folders of run and data."""
        stock = TextEncoder.encode

        def encode(encoder: TextEncoder, texts: Any) -> torch.Tensor:
            self.record["encoded"] += 0 if self.record["drawn"] else len(texts)
            return stock(encoder, texts)

        TextEncoder.encode = encode  # type: ignore[method-assign]
        places = (str(self.save_dir), str(self.config.root))

        def hook(event: str, args: tuple[Any, ...]) -> None:
            writes = event in ("os.rename", "os.remove") or (
                event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            )
            if writes and str(args[0]).startswith(places):
                self.record["written"].append(str(args[0]))

        sys.addaudithook(hook)

    def _setup_ddp(self) -> None:
        dist.init_process_group("gloo", timeout=timedelta(seconds=LIMIT), rank=RANK, world_size=WORLD)
        stock = nn.parallel.DistributedDataParallel
        nn.parallel.DistributedDataParallel = lambda model, device_ids, **how: stock(model, **how)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.record["drawn"] += [Path(p).name for p in batch["im_file"]]
        return super().preprocess_batch(batch)

    def validate(self) -> Any:
        self.record["validated"].append([i for _, i in self.test_loader.sampler])
        return super().validate()

    def _do_train(self) -> None:
        super()._do_train()
        model = self.model.module
        self.record |= {
            "parallel": type(self.model).__name__,
            "weights": fingerprint(dict(model.named_parameters())),
            "averages": fingerprint(self.ema.ema.state_dict()),
            "noise": torch.get_rng_state().sum().item(),
            "metrics": type(self.metrics).__name__,
            "count": ranks.world_size(),
            "table": self.validator.metrics.table(),
            "asked": [case.caption for case in self.validator.cases],
            "fitted": self.validator.calibration.true if self.validator.calibration else 0,
        }
        Path(os.environ[RECORDS], f"{RANK}.json").write_text(json.dumps(self.record))
        dist.destroy_process_group()  # gloo's threads may keep a process from ending


def limited(command: list[str], check: bool = True) -> None:
    """Run a command as `subprocess.run` does, but end it with all its children after `LIMIT` seconds."""
    log = Path(os.environ[RECORDS], "launcher.log")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                print(log.read_text()[-6000:])  # pytest shows it beside the error
    if check and process.returncode:
        raise RuntimeError(f"exit status {process.returncode}:\n{log.read_text()[-6000:]}")
