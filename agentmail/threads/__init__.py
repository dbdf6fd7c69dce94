"""Many messages: which thread each belongs to, and why. Pure, like `agentmail.message`."""
