"""What the line costs: a ledger of stages and runs, budgets that stop a run before it starts, and a table by month."""
