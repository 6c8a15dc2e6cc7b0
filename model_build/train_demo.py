"""Train the demo model: the product's network at quarter width, from nothing, on people drawn by our own program.

    python -m model_build.train_demo --output demo.ckpt                     # the whole schedule, about an hour on two cores
    python -m model_build.train_demo --output tiny.ckpt --width 4 --persons 24 --stages 64:3,256:2

The schedule counts steps, not minutes, so the result does not depend on the machine's speed; it is still not equal to
the last bit between machines, hence the shipped file is the model and this script and its seed are where it comes from.
Losses: cross-entropy with label smoothing on the neck's output; on the pooled feature, the batch-hard triplet loss
(Hermans et al. 2017) and the centroid triplet loss (Wieczorek et al. 2021).
"""

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from app.core.preprocess import HEIGHT, MEAN, STD, WIDTH
from app.demo.people import draw_camera, draw_person
from app.demo.scene import draw_crop, encode_jpeg
from model_build.network import Architecture, ReidNetwork

PERSONS_A_BATCH, CROPS_A_PERSON = 16, 4
MARGIN = 0.3


@dataclass(frozen=True, slots=True)
class Stage:
    """So many steps at one input height (the width is half of it)."""

    height: int
    steps: int
    rate: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the outcome."""

    seed: int = 2026
    width: int = 16
    persons: int = 2000
    cameras: int = 40
    crops_a_person: int = 6
    stages: tuple[Stage, ...] = (Stage(128, 4200, 1.2e-3), Stage(256, 3600, 8e-4))


def draw_training_set(plan: Plan) -> tuple[Tensor, Tensor]:
    """Crops uint8 [n, 3, 256, 128] and labels int64 [n]: each person before several cameras of all strengths."""
    rng = np.random.default_rng([plan.seed, 0])
    cameras = [draw_camera(rng, float(rng.uniform(0.2, 1.4))) for _ in range(plan.cameras)]
    crops = np.empty((plan.persons * plan.crops_a_person, 3, HEIGHT, WIDTH), dtype=np.uint8)
    for label in range(plan.persons):
        hard = float(rng.uniform(0, 1))
        person, seen = draw_person(rng, hard), rng.permutation(plan.cameras)
        for shot in range(plan.crops_a_person):
            camera = cameras[seen[shot % plan.cameras]]
            jpeg = encode_jpeg(draw_crop(rng, person, camera, draw_person(rng, hard)), camera)
            crop = Image.open(io.BytesIO(jpeg)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
            crops[label * plan.crops_a_person + shot] = np.asarray(crop).transpose(2, 0, 1)
    return torch.from_numpy(crops), torch.arange(plan.persons).repeat_interleave(plan.crops_a_person)


def train(plan: Plan, crops: Tensor, labels: Tensor, output: Path) -> None:
    """Run the schedule; the checkpoint is written every thousand steps and at the end, so a stopped run leaves its last."""
    torch.manual_seed(plan.seed)
    network = initialise(ReidNetwork(Architecture(plan.width)))
    classifier = nn.Linear(network.architecture.dim, plan.persons, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    parameters = [p for p in (*network.parameters(), *classifier.parameters()) if p.requires_grad]
    network.train()
    done = 0
    for stage in plan.stages:
        optimiser = torch.optim.AdamW(parameters, lr=stage.rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, stage.rate, stage.steps, pct_start=0.08)
        started = time.monotonic()
        for step in range(stage.steps):
            rng = np.random.default_rng([plan.seed, 1, done + step])
            rows = sample_rows(rng, plan)
            loss = batch_loss(network, classifier, augment(crops[rows], rng, stage.height), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
            schedule.step()
            if step % 50 == 49:
                pace = (step + 1) * len(rows) / (time.monotonic() - started)
                where = f"height {stage.height}  step {step + 1}/{stage.steps}"
                print(f"{where}  loss {loss.item():.3f}  {pace:.0f} crops/s", flush=True)
            if step % 1000 == 999 or step + 1 == stage.steps:
                save_checkpoint(output, plan, network, classifier)
        done += stage.steps


def initialise(network: ReidNetwork) -> ReidNetwork:
    """He-normal filters; the neck's bias stays zero and is not trained, as in the published model."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    network.bn.bias.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's overloads miss it


def sample_rows(rng: np.random.Generator, plan: Plan) -> Tensor:
    """Rows of a batch: some persons, some crops of each, grouped by person."""
    persons = rng.choice(plan.persons, min(PERSONS_A_BATCH, plan.persons), replace=False)
    rows = [p * plan.crops_a_person + rng.permutation(plan.crops_a_person)[:CROPS_A_PERSON] for p in persons]
    return torch.from_numpy(np.concatenate(rows))


def augment(crops: Tensor, rng: np.random.Generator, height: int) -> Tensor:
    """Flip, shift, colour gain and erasing, each crop its own; float32 [n, 3, height, height / 2], normalised."""
    x = crops.float().div_(255)
    if height != HEIGHT:
        x = nn.functional.interpolate(x, size=(height, height // 2), mode="area")
    n, _, high, wide = x.shape
    pad = high // 24
    padded = nn.functional.pad(x, (pad, pad, pad, pad), mode="replicate")
    out = torch.empty_like(x)
    for i in range(n):
        top, left = rng.integers(0, 2 * pad + 1, 2)
        crop = padded[i, :, top : top + high, left : left + wide]
        out[i] = crop.flip(2) if rng.random() < 0.5 else crop
        if rng.random() < 0.4:
            h, w = int(high * rng.uniform(0.08, 0.35)), int(wide * rng.uniform(0.15, 0.6))
            y, z = int(rng.integers(high - h)), int(rng.integers(wide - w))
            out[i, :, y : y + h, z : z + w] = torch.from_numpy(rng.uniform(0, 1, (3, 1, 1)).astype(np.float32))
    gains = torch.from_numpy(np.exp(rng.normal(0, 0.08, (n, 3, 1, 1))).astype(np.float32))
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((out * gains).clamp_(0, 1) - mean) / std


def batch_loss(network: ReidNetwork, classifier: nn.Linear, x: Tensor, labels: Tensor) -> Tensor:
    """All three losses of one batch."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = network.pooled(x.contiguous(memory_format=torch.channels_last))
    pooled = pooled.float()
    logits = classifier(network.bn(pooled))
    entropy = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    return entropy + batch_hard_triplet(pooled, labels) + centroid_triplet(pooled, labels)


def batch_hard_triplet(features: Tensor, labels: Tensor) -> Tensor:
    """For each crop: its farthest crop of the same person against the nearest of another, with a margin."""
    distance = torch.cdist(features, features)
    same = labels[:, None] == labels[None, :]
    positive = distance.masked_fill(~same, 0).amax(1)
    negative = distance.masked_fill(same, torch.inf).amin(1)
    return nn.functional.relu(positive - negative + MARGIN).mean()


def centroid_triplet(features: Tensor, labels: Tensor) -> Tensor:
    """For each crop: the mean of its person's other crops against the nearest mean of another person's crops."""
    persons, member = torch.unique(labels, return_inverse=True)
    one_hot = nn.functional.one_hot(member, len(persons)).float()
    counts = one_hot.sum(0)
    sums = one_hot.T @ features
    others = (sums[member] - features) / (counts[member] - 1).clamp(min=1)[:, None]
    positive = (features - others).norm(dim=1)
    distance = torch.cdist(features, sums / counts[:, None])
    negative = distance.masked_fill(one_hot.bool(), torch.inf).amin(1)
    return nn.functional.relu(positive - negative + MARGIN).mean()


def save_checkpoint(path: Path, plan: Plan, network: ReidNetwork, classifier: nn.Linear) -> None:
    """Write the dict that `model_build export` reads, with tensors and plain values only."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    state["fc_query.weight"] = classifier.weight.detach()
    note = "demo model, trained on drawn people, not for real use"
    torch.save(
        {"state_dict": state, "hyper_parameters": {"label": note, "seed": plan.seed, "persons": plan.persons}}, path
    )


def main() -> None:
    """Draw, train, save."""
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--width", type=int, default=default.width)
    parser.add_argument("--persons", type=int, default=default.persons)
    parser.add_argument("--stages", help="HEIGHT:STEPS,... in place of the whole schedule")
    arguments = parser.parse_args()
    stages = default.stages
    if arguments.stages:
        parts = (part.split(":") for part in arguments.stages.split(","))
        stages = tuple(Stage(int(height), int(steps), 1e-3) for height, steps in parts)
    plan = Plan(width=arguments.width, persons=arguments.persons, stages=stages)
    crops, labels = draw_training_set(plan)
    print(f"{len(crops)} crops of {plan.persons} drawn persons", flush=True)
    train(plan, crops, labels, arguments.output)


if __name__ == "__main__":
    main()
