"""A load that keeps a ledger of what was acknowledged: does a scale-out lose, double or refuse anything?"""
