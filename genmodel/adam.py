"""torch's Adam and Adamax without its compiler: the same updates to the bit, 2 s of CPU less a process that trains.

torch's own methods tell the compiler to leave them alone, and import all of it (torch._dynamo, sympy) to say so. No
optimiser is compiled here. `inspect.unwrap` gives the method as it was before it was wrapped, whatever the wrapping.
"""

import inspect

import torch


class Adam(torch.optim.Adam):
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)


class Adamax(torch.optim.Adamax):
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adamax.step))
    add_param_group = inspect.unwrap(torch.optim.Adamax.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Adamax.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adamax.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Adamax.zero_grad)
