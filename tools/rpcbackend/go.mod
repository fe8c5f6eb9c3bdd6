module millrace/tools/rpcbackend

go 1.26
