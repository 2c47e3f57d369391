// Package openapi describes the served types: as OpenAPI v2 and v3 documents for clients (kubectl explain, field
// validation, code generators), and as Models for server-side apply.
//
// Nothing is generated and stored: models are read from the Go types themselves when somebody first asks. Field names,
// types, patch strategies and which fields are required come from struct tags, descriptions from SwaggerDoc, and how
// lists merge from merge.txt. A document is built on demand, kept compressed and served with an ETag; until then it
// costs nothing.
package openapi
