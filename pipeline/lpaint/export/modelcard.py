"""The model card that is committed beside an exported actor."""

from typing import Any

from lpaint.painting.actor_spec import ActorSpec

# What the licence of the training data means for the weights.
LICENCES = {
    "celeba": "Trained on CelebA, whose images are for non-commercial research only; use the weights likewise.",
    "folder": "Trained on a folder of images of the user's; their licence governs the weights.",
    "mnist": "Trained on MNIST (CC BY-SA 3.0) or a data set in its form; that data set's licence governs the weights.",
    "svhn": "Trained on SVHN, which is for non-commercial use only; use the weights likewise.",
    "synthetic": "Trained on lpaint's own synthetic pictures; the weights are free of any data set's licence.",
}

_ALGORITHM = {
    "ddpg": "model-based DDPG (Huang et al. 2019)",
    "td3": "model-based TD3 (Huang et al. 2019, Fujimoto et al. 2018)",
    "model_free_ddpg": "model-free DDPG (Lillicrap et al. 2016)",
}
_PROTOCOL = {
    "search": "the agent proposes strokes for the whole picture and for tiles of it; those that help most are painted",
    "episode": "the published episode: the whole picture, every stroke in the agent's order, none left out",
}
_INITIAL_CANVAS = {"black": "black", "white": "white", "mean": "in the picture's mean colour"}


def model_card(spec: ActorSpec, evaluation: dict[str, Any], parity: dict[str, Any]) -> str:
    """Markdown card from the actor's spec, the evaluation's report and the export's parity report."""
    protocol = evaluation["protocol"]
    effort = f"; effort {evaluation['effort']} (tiles that the agent proposes strokes for before some are painted)"
    left_out = ", ".join(map(str, evaluation["left_out"]))
    beyond = f"\nBudgets beyond the end of the episode are left out: {left_out}.\n" if left_out else ""
    worst = max(parity["actor"].values())
    size, zoom = spec.canvas, ", ".join(map(str, spec.zoom))
    return f"""# Model card: actor.onnx

An agent that paints pictures with strokes of the family `{spec.family}`, trained by
{_ALGORITHM[spec.algorithm]} with {spec.replay} replay and GAN `{spec.gan}`.

- **In**: canvas and target, {size} x {size} RGB in 0..1, and the step as a share of {spec.max_steps}.
- **Out**: {spec.bundle} strokes a step. The file carries the exact rasteriser of its strokes.
- **Scales seen in training**: {zoom} (1 = the whole picture, 2 = a half-size crop, ...).
- **Protocol**: `{protocol}`: {_PROTOCOL[protocol]}.
- **Data**: {spec.data_source}, digest `{spec.data_digest[:16]}`, seed {spec.seed}.
- **Licence**: code MIT. {LICENCES[spec.data_source]}

## Error at {evaluation["size"]} px

Mean squared error on 0..1, by stroke budget on a canvas that starts {_INITIAL_CANVAS[spec.initial_canvas]}{
        effort if protocol == "search" else ""
    }. Used: mean number of strokes painted. Settings and champions are chosen on the
validation split, never on the test split.

{evaluation["images"]} test images:

{_table(evaluation["strokes"])}

{evaluation["validation"]["images"]} validation images:

{_table(evaluation["validation"]["strokes"])}
{beyond}
ONNX Runtime agrees with torch to {worst:.1g} (largest absolute difference of a stroke's number).

## Limits

It cannot paint small text, fine texture or details of a few pixels of a tile. It was trained on one kind of
picture; on other kinds expect a larger error for the same number of strokes.
"""


def _table(strokes: dict[str, Any]) -> str:
    rows = [
        f"| {budget} | {row['used']:.1f} | {row['l2']['mean']:.5f} | {row['psnr']['mean']:.2f} "
        f"| {row['ssim']['mean']:.3f} | {row['reward']['mean']:.3f} |"
        for budget, row in strokes.items()
    ]
    return "\n".join(
        ["| strokes | used | L2 | PSNR, dB | SSIM | (L_0 - L_T) / L_0 |", "|---|---|---|---|---|---|", *rows]
    )
