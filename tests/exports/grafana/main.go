// grafana-dashboard FILE: is this a dashboard as Grafana's own types have it? Silent and 0 where it is; 1 and each
// thing that is wrong on a line of its own where it is not.
//
// Strict means: no field that the types do not have, none missing that they require, each of its type; of the dashboard,
// its panels, their options by the panel's kind, and their queries by the datasource's.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: grafana-dashboard FILE"))
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	plugins.RegisterDefaultPlugins()
	if wrong := wrongIn(raw); len(wrong) > 0 {
		fail(wrong)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// told is an error of the types as a list: theirs is never nil, and empty where there is nothing to say.
func told(path string, err error) cog.BuildErrors {
	if err == nil {
		return nil
	}
	return cog.MakeBuildErrors(path, err)
}

// wrongIn reads strictly for what is wrong, and once more for the panels, which a strict reading does not keep.
func wrongIn(raw []byte) cog.BuildErrors {
	strict, found := dashboard.Dashboard{}, dashboard.Dashboard{}
	if wrong := told("dashboard", strict.UnmarshalJSONStrict(raw)); len(wrong) > 0 {
		return wrong
	}
	if err := json.Unmarshal(raw, &found); err != nil {
		return told("dashboard", err)
	}
	wrong := told("dashboard", found.Validate())
	var read struct {
		Panels []struct {
			FieldConfig json.RawMessage `json:"fieldConfig"`
		} `json:"panels"`
	}
	wrong = append(wrong, told("dashboard", json.Unmarshal(raw, &read))...)
	for number, each := range found.Panels {
		if each.Panel != nil {
			path := fmt.Sprintf("dashboard.panels[%d]", number)
			wrong = append(wrong, leftUnread(path, each.Panel, read.Panels[number].FieldConfig)...)
		}
	}
	return wrong
}

// leftUnread is what is wrong where the types' own strict reading is not strict: a panel or a query of a kind that they
// do not know, and a panel's fieldConfig.
func leftUnread(path string, panel *dashboard.Panel, raw []byte) cog.BuildErrors {
	config := dashboard.FieldConfigSource{}
	wrong := told(path+".fieldConfig", config.UnmarshalJSONStrict(raw))
	if _, known := cog.ConfigForPanelcfgVariant(panel.Type); !known {
		wrong = append(wrong, told(path+".type", fmt.Errorf("unknown kind of panel '%s'", panel.Type))...)
	}
	for number, target := range panel.Targets {
		if target.DataqueryType() == "unknown" {
			path := fmt.Sprintf("%s.targets[%d].datasource", path, number)
			wrong = append(wrong, told(path, errors.New("unknown kind of datasource"))...)
		}
	}
	return wrong
}
