"""The program's rules once more, as a policy pack: for `pulumi` by hand, and for programs of other people."""
