"""Build an agent from its settings: networks, GAN and update rule."""

from lpaint.agent.ddpg import Ddpg
from lpaint.agent.environment import Compositor
from lpaint.agent.networks import ActionCritic, Actor, Critic, TwinCritic
from lpaint.agent.variants import ModelFreeDdpg, Td3
from lpaint.gan import DiscriminatorTrainer, build_gan
from lpaint.runtime.params import Agent
from lpaint.training.device import Compute

_RULES: dict[str, type[Ddpg]] = {"ddpg": Ddpg, "td3": Td3, "model_free_ddpg": ModelFreeDdpg}


def build_agent(settings: Agent, actor: Actor, compositor: Compositor, compute: Compute) -> Ddpg:
    """The agent that ``settings.algorithm`` names, around ``actor``; its other networks are fresh.

    Raises:
        ParamsError: there is no such GAN.
    """
    width, thresholds = settings.critic.width, settings.thresholds
    critic: Critic | TwinCritic | ActionCritic
    if settings.algorithm == "td3":
        critic = TwinCritic(width, thresholds)
    elif settings.algorithm == "model_free_ddpg":
        critic = ActionCritic(width, actor.bundle * actor.stroke_parameters, thresholds)
    else:
        critic = Critic(width, thresholds)
    gan = build_gan(settings)
    trainer = DiscriminatorTrainer(gan, settings.discriminator, settings.adam, compute) if gan else None
    return _RULES[settings.algorithm](settings, actor, critic, compositor, trainer, compute)
