#!/bin/sh
# Writes x/vault/*.pb.go and *.pb.gw.go from the .proto files beside this script.
# Needs protoc 3.21 or later; the two plugins come at the versions of go.mod.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dir() { go list -m -f '{{.Dir}}' "$1"; }
version() { go list -m -f '{{.Version}}' "$1"; }

gogo=github.com/cosmos/gogoproto
gateway=github.com/grpc-ecosystem/grpc-gateway
GOBIN="$work/bin" go install "$gogo/protoc-gen-gocosmos@$(version $gogo)"
GOBIN="$work/bin" go install "$gateway/protoc-gen-grpc-gateway@$(version $gateway)"
PATH="$work/bin:$PATH"

protoc -I proto \
	-I "$(dir github.com/cosmos/cosmos-sdk)/proto" \
	-I "$(dir github.com/cosmos/cosmos-proto)/proto" \
	-I "$(dir $gogo)" -I "$(dir $gogo)/protobuf" \
	-I "$(dir $gateway)/third_party/googleapis" \
	--gocosmos_out=plugins=grpc,Mgoogle/protobuf/any.proto=$gogo/types/any:"$work" \
	--grpc-gateway_out=logtostderr=true,allow_colon_final_segments=true:"$work" \
	proto/agentkeys/vault/v1/*.proto
cp "$work"/example.org/agentkeys/chain/x/vault/*.go x/vault/
# The generator still writes calls that its own libraries call deprecated.
sed -i.bak "s|^package vault$|package vault\n\n//lint:file-ignore SA1019 generated|" x/vault/*.pb.gw.go && rm -f x/vault/*.bak
gofmt -w x/vault/*.pb.go x/vault/*.pb.gw.go
