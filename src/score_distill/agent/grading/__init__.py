"""Whether two answers are equal, as a careful person would say.

What an agent hands over is one answer, and the whole of it is read: `text` takes off what is only form, `reading` finds
what kind of thing it is (a number with its unit, an expression, a choice, a date, a list, a code, a name), and
`comparing` compares two of one kind. What needs mathematics is compared by `score_distill.agent.mathematics`, in a
process of its own.
"""
