package main

import "io"

func runArchive(args []string, stdout, stderr io.Writer) int { return 2 }
func runBench(args []string, stdout, stderr io.Writer) int   { return 2 }
