"""``params.yaml`` as frozen, validated sections. An unknown key or an invalid value is an error that names the key."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lpaint.errors import ParamsError, one_line

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen group of parameters. Unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Base(Section):
    seed: Seed
    device: Literal["auto", "cuda", "cpu"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Count
    compile: Literal["auto", "on", "off"]
    deterministic: bool
    tracking: Literal["mlflow", "jsonl"]

    @model_validator(mode="before")
    @classmethod
    def _yaml_booleans(cls, values: Any) -> Any:
        # YAML 1.1 editors and `-S base.compile=off` turn on/off into booleans.
        if isinstance(values, dict) and isinstance(values.get("compile"), bool):
            return {**values, "compile": "on" if values["compile"] else "off"}
        return values


class Data(Section):
    source: Literal["celeba", "folder", "mnist", "svhn", "synthetic"]
    path: str
    seed: Seed
    limit: Count
    size: Annotated[int, Field(ge=16, le=1024)]
    fit: Literal["crop", "stretch"]
    validation_fraction: Share
    test_fraction: Share
    max_bad_fraction: Share
    workers: Count

    @model_validator(mode="after")
    def _consistent(self) -> "Data":
        if self.source != "synthetic" and not self.path:
            raise ValueError(f"path: is empty, but source {self.source} needs an archive or a folder")
        if self.source == "synthetic" and self.limit == 0:
            raise ValueError("limit: 0 (all images) makes no sense for source synthetic; give a number")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction: with test_fraction it leaves nothing to train on")
        return self


class Stroke(Section):
    family: Literal["bezier", "bezier_opaque", "brush", "circle", "line", "pixel", "rectangle", "triangle"]
    canvas: Annotated[int, Field(ge=16, le=256, multiple_of=16)]


class Renderer(Section):
    network: Literal["published", "enhanced"]
    activation: Literal["relu", "gelu", "silu"]
    loss: Literal["cross_entropy", "l1", "l2", "mixed", "edge"]
    optimiser: Literal["adam", "adamw", "radam"]
    updates: Positive
    batch_size: Positive
    learning_rate: Rate
    decay_at: list[Share]
    validate_every: Positive
    validation_strokes: Positive
    checkpoint_every: Positive


class Network(Section):
    width: Annotated[int, Field(ge=4, le=256)]
    learning_rate: Rate
    decayed_rates: list[Rate] = []


class ActorNetwork(Network):
    head: Literal["pooled", "attention"]
    blocks: Annotated[int, Field(ge=1, le=4)]
    norm: Literal["batch", "layer"]
    average: bool


class Curriculum(Section):
    canvas: Annotated[int, Field(ge=16, le=256, multiple_of=16)]
    share: Annotated[float, Field(ge=0, lt=1)]


class Reward(Section):
    l2: Annotated[float, Field(ge=0)]
    l2_form: Literal["log_ratio", "difference"]
    l2_epsilon: Annotated[float, Field(gt=0)]
    edges: Annotated[float, Field(ge=0)]
    gan: Annotated[float, Field(ge=0)]
    gan_scale: Literal["running", "none"]


class Per(Section):
    alpha: Share
    beta: Share
    epsilon: Annotated[float, Field(gt=0)]
    stratified: bool
    actor_sampling: Literal["shared", "uniform"]


class Td3(Section):
    policy_delay: Positive
    smoothing: Share
    smoothing_clip: Share


class Noise(Section):
    std: Annotated[float, Field(gt=0, le=1)]
    adaptation: Annotated[float, Field(gt=1, le=2)]


class Adam(Section):
    learning_rate: Rate
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]


class WganGpSettings(Adam):
    gradient_penalty: Annotated[float, Field(ge=0)]


class DraganSettings(WganGpSettings):
    perturbation: Annotated[float, Field(ge=0)]


class FisherSettings(Adam):
    rho: Annotated[float, Field(gt=0)]


class CramerSettings(WganGpSettings):
    features: Annotated[int, Field(ge=2, le=1024)]
    references: Annotated[int, Field(ge=1, le=1024)]


class Discriminator(Section):
    width: Annotated[int, Field(ge=4, le=256)]
    tau: Rate
    warmup_updates: Count
    frozen: bool
    head: Literal["linear", "convolution"] = "linear"


class Validation(Section):
    every: Positive
    images: Positive
    strokes: Positive


class Agent(Section):
    algorithm: Literal["ddpg", "td3", "model_free_ddpg"]
    exploration: Literal["none", "gaussian", "parameter"]
    gan: Literal["none", "wgan_gp", "dragan", "fisher", "cramer", "sngan", "sagan", "sagan_linear"]
    replay: Literal["uniform", "prioritized"]
    renderer: Literal["exact", "neural"]
    zoom: Annotated[list[Positive], Field(min_length=1)]
    max_steps: Positive
    bundle: Annotated[int, Field(ge=1, le=64)]
    fit_colours: Literal["never", "painting", "rollouts", "always"]
    start: Literal["black", "mean", "white"]
    crops: Literal["random", "error"]
    carry: Literal["pixels", "strokes"]
    horizon: Annotated[int, Field(ge=1, le=16)]
    updates: Positive
    updates_per_round: Positive
    batch_size: Annotated[int, Field(ge=2)]
    environments: Positive
    processes: Annotated[int, Field(ge=1, le=64)]
    replay_rounds: Positive
    replay_transitions: Count = 0
    warmup_rounds: Positive
    discount: Share
    tau: Rate
    target_norm: Literal["own", "online"] = "own"
    thresholds: Literal["channel", "layer"] = "channel"
    max_gradient_norm: Annotated[float, Field(ge=0)]
    flip: bool
    on_divergence: Literal["stop", "step_back"]
    actor: ActorNetwork
    critic: Network
    curriculum: Curriculum
    schedule: Literal["step", "cosine"]
    warmup_updates: Count
    decay_at: list[Share]
    decay_by: Annotated[float, Field(gt=0, le=1)]
    reward: Reward
    per: Per
    td3: Td3
    noise: Noise
    discriminator: Discriminator
    wgan_gp: WganGpSettings
    dragan: DraganSettings
    fisher: FisherSettings
    cramer: CramerSettings
    sngan: Adam
    sagan: Adam
    sagan_linear: Adam
    validation: Validation
    checkpoint_every: Positive

    @model_validator(mode="after")
    def _consistent(self) -> "Agent":
        if self.gan == "none" and self.reward.l2 == 0:
            raise ValueError("reward.l2: is 0 and gan is none, so there is no reward; set one of them")
        if self.reward.l2 == 0 and self.reward.gan == 0:
            raise ValueError("reward: l2 and gan are both 0, so there is no reward; set one above 0")
        if self.replay == "prioritized" and self.discount == 0:
            raise ValueError(
                "replay: prioritized needs temporal-difference errors, and discount 0 has none; use uniform"
            )
        if self.algorithm == "td3" and self.discount == 0:
            raise ValueError("algorithm: td3 trains critics, and discount 0 has none; use ddpg or a discount above 0")
        if self.algorithm == "model_free_ddpg" and self.horizon > 1:
            raise ValueError("horizon: n-step targets use the renderer, which model_free_ddpg does not; set it to 1")
        if self.exploration == "parameter" and self.actor.norm != "layer":
            raise ValueError("exploration: parameter noise relies on layer norm; set actor.norm to layer")
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            rates = len(network.decayed_rates)
            if rates and (self.schedule != "step" or rates != len(self.decay_at)):
                raise ValueError(
                    f"{name}.decayed_rates: has {rates} rates for the {len(self.decay_at)} shares of decay_at under "
                    f"schedule {self.schedule}; give one for each share under schedule step, or []"
                )
        if 0 < self.replay_transitions < self.transitions_per_round:
            raise ValueError(
                f"replay_transitions: {self.replay_transitions} has no room for a round of "
                f"{self.transitions_per_round} (environments x max_steps x scales of zoom); give at least so many, "
                "or 0 for replay_rounds"
            )
        if self.zoom[0] != 1 or any(
            fine % coarse or fine <= coarse for coarse, fine in zip(self.zoom, self.zoom[1:], strict=False)
        ):
            raise ValueError(
                "zoom: must start at 1 and each scale must be a multiple of the one before, e.g. [1, 2, 4]"
            )
        return self

    @property
    def counts_steps(self) -> bool:
        """Whether the step is an input of the actor; with discount 0 it does not matter."""
        return self.discount > 0

    @property
    def episode_strokes(self) -> int:
        """Strokes of an episode at one scale."""
        return self.max_steps * self.bundle

    @property
    def transitions_per_round(self) -> int:
        """Transitions per round: one episode in every environment."""
        return self.environments * self.max_steps * len(self.zoom)

    @property
    def replay_capacity(self) -> int:
        """Maximum number of transitions in the replay."""
        return self.replay_transitions or self.replay_rounds * self.transitions_per_round

    @property
    def adam(self) -> Adam:
        """The optimiser settings of ``gan``, which must not be ``none``."""
        section: Adam = getattr(self, self.gan)
        return section


class Evaluate(Section):
    images: Count
    strokes: Annotated[list[Positive], Field(min_length=1)]
    protocol: Literal["search", "episode"] = "search"
    effort: Positive
    timelapses: Count


class Export(Section):
    opset: Annotated[int, Field(ge=18, le=23)]
    precision: Literal["fp32", "fp16"]
    register_model: Annotated[bool, Field(alias="register")]


class Params(Section):
    """All sections of ``params.yaml``."""

    base: Base
    data: Data
    stroke: Stroke
    renderer: Renderer
    agent: Agent
    evaluate: Evaluate
    export: Export

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        for key, canvas in (
            ("stroke.canvas", self.stroke.canvas),
            ("agent.curriculum.canvas", self.agent.curriculum.canvas if self.agent.curriculum.share else 0),
        ):
            if self.data.size < canvas:
                raise ValueError(
                    f"{key}: {canvas} is larger than data.size {self.data.size}; "
                    "images must have at least the canvas's pixels"
                )
        if self.data.size % self.agent.zoom[-1]:
            raise ValueError(f"agent.zoom: {self.agent.zoom[-1]} does not divide data.size {self.data.size}")
        if self.evaluate.protocol == "episode":
            self._check_episode()
        return self

    @property
    def validation_strokes(self) -> int:
        """``agent.validation.strokes``; under protocol ``episode`` at most the strokes of an episode."""
        most = self.agent.episode_strokes
        wanted = self.agent.validation.strokes
        return wanted if self.evaluate.protocol == "search" else min(wanted, most)

    def _check_episode(self) -> None:
        if self.agent.zoom != [1]:
            raise ValueError(
                f"evaluate.protocol: episode paints the whole picture in one episode, but agent.zoom {self.agent.zoom} "
                "ends an episode on a crop; use search, or set agent.zoom to [1]"
            )
        most = self.agent.episode_strokes
        if min(self.evaluate.strokes) > most:
            raise ValueError(
                f"evaluate.strokes: an episode ends after {most} strokes (agent.max_steps x agent.bundle), so none of "
                f"{self.evaluate.strokes} can be judged; add one up to {most}"
            )


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        ParamsError: the file is missing or not YAML, or a key is unknown, missing, or has an invalid value.
    """
    path = Path(path)
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run this in the root of an lpaint repository") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML ({one_line(error)}); correct the file") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: holds no sections; it must have base, data, stroke, renderer, agent, ...")
    return parse_params(values, str(path))


def parse_params(values: dict[str, Any], origin: str) -> Params:
    """Validate a nested mapping; ``origin`` names it in error messages.

    Raises:
        ParamsError: a key is wrong; the text names the first one, and the nearest known key if it is unknown.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        # A mistyped key is unknown, and its right name is missing; the unknown name comes first.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise ParamsError(f"{origin}: {_sentence(problems[0])}") from None


def merge_values(values: dict[str, Any], layer: dict[str, Any]) -> None:
    """Merge nested mappings: the values of ``layer`` replace those of ``values``, section by section."""
    for key, value in layer.items():
        if isinstance(value, dict):
            merge_values(values[key], value)
        else:
            values[key] = value


def known_keys() -> list[str]:
    """All keys of ``params.yaml`` with dots, sections included."""
    return _all_keys(Params)


def _sentence(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}{_suggestion(location)}; remove it or correct its name"
    if problem["type"] == "missing":
        return f"key {key} is missing; add it (the committed params.yaml shows every key)"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{key}.{message}" if key else message
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key} is {problem['input']!r}: {reason}"


def _suggestion(location: list[str]) -> str:
    """A hint with the nearest known key: of the same section, or else of the whole file."""
    section: Any = Params
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    siblings = [field.alias or name for name, field in section.model_fields.items()]
    near = difflib.get_close_matches(location[-1], siblings, n=1)
    if near:
        return f" (did you mean {'.'.join([*location[:-1], near[0]])}?)"
    everywhere = known_keys()
    near = [key for key in everywhere if key.rsplit(".", 1)[-1] == location[-1]] or difflib.get_close_matches(
        ".".join(location), everywhere, n=1
    )
    return f" (did you mean {near[0]}?)" if near else ""


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _all_keys(field.annotation, key + ".")
    return keys
