"""Orders and what may become of them: the aggregate, its rules, its refusals, its rows."""
