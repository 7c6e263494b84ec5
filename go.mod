module example.org/agentkeys

go 1.26.0
