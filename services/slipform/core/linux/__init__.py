"""Linux system calls that the standard library lacks, one thin wrapper each."""
