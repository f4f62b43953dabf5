"""Many runs as one table of results: systems, their seeds, intervals over seeds and faces, tests, the paper's claims.

`effects` holds the statistics, `systems` decides which runs are seeds of one system and which systems may stand in one
table, `claims` finds the difference that a paper prints for a pair of systems, `results` puts them together, `tables`,
`markdown` and `figures.board` show them.
"""
