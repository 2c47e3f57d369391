package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// generation asks the kernel for the number of the rule set: it changes with every transaction by anybody in the namespace.
func generation(conn *netlink.Conn) (uint32, error) {
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("read the rule set's generation: %w", err)
	}
	for _, m := range replies {
		attributes, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("decode the rule set's generation: %w", err)
		}
		attributes.ByteOrder = binary.BigEndian
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_GEN_ID {
				return attributes.Uint32(), nil
			}
		}
	}
	return 0, fmt.Errorf("the kernel told no generation of the rule set")
}

// comments reads the comments of the rules of a chain, in order: all that a look at a rule needs, and all of it that the library can decode
// whatever the rule says.
func comments(conn *netlink.Conn, t *nftables.Table, chain string) ([][]byte, error) {
	ask, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(t.Name), 0)},
		{Type: unix.NFTA_RULE_CHAIN, Data: append([]byte(chain), 0)},
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the rules of chain %s: %w", chain, err)
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}, ask...),
	})
	if err != nil {
		return nil, fmt.Errorf("read the rules of chain %s: %w", chain, err)
	}
	var out [][]byte
	for _, m := range replies {
		attributes, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return nil, fmt.Errorf("decode a rule of chain %s: %w", chain, err)
		}
		var comment []byte
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_RULE_USERDATA {
				comment = attributes.Bytes()
			}
		}
		if err := attributes.Err(); err != nil {
			return nil, fmt.Errorf("decode a rule of chain %s: %w", chain, err)
		}
		out = append(out, comment)
	}
	return out, nil
}
