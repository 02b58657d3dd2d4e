"""Splitting traffic between versions by weight: smooth weighted round robin. Pure."""

from trtserve.model.catalog import Shares


class Turns:
    """Whose turn it is. Over as many turns as the weights sum up to, each version has exactly
    its weight, spread evenly: 1 of 10 comes every tenth time, not in a row of tenths.
    """

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self._whole = sum(weight for _, weight in shares)
        self._credit = [0] * len(shares)

    def next(self) -> int:
        """The version of the next request: all earn their weight, the richest pays for a turn."""
        credit = self._credit
        best = 0
        for index, (_, weight) in enumerate(self.shares):
            credit[index] += weight
            if credit[index] > credit[best]:
                best = index
        credit[best] -= self._whole
        return self.shares[best][0]
