-- PostgreSQL, English, uuid keys, a schema of its own for staff, polymorphic attachments
CREATE SCHEMA hr;
CREATE TABLE hr.employees (
  id uuid PRIMARY KEY, full_name text NOT NULL, work_email text NOT NULL UNIQUE, phone_ext varchar(12), salary numeric(10,2),
  team_name text, hired_on date
);
CREATE TABLE contacts (
  id uuid PRIMARY KEY, display_name varchar(120) NOT NULL, primary_email varchar(200) NOT NULL UNIQUE, secondary_email varchar(200),
  mobile varchar(30), company varchar(120), locale varchar(10), twitter_handle varchar(50), custom jsonb, created_at timestamptz NOT NULL
);
CREATE TYPE ticket_state AS ENUM ('open', 'pending', 'closed');
CREATE TABLE tickets (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, requester_id uuid NOT NULL REFERENCES contacts (id),
  assignee_id uuid REFERENCES hr.employees (id) ON DELETE SET NULL, subject varchar(250) NOT NULL, state ticket_state NOT NULL, opened timestamptz NOT NULL,
  satisfaction smallint
);
CREATE INDEX ON tickets (requester_id);
CREATE INDEX ON tickets (assignee_id);
CREATE TABLE ticket_messages (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ticket_id bigint NOT NULL REFERENCES tickets (id), from_address varchar(200),
  body_html text NOT NULL, sent_at timestamptz NOT NULL, client_ip inet
);
CREATE INDEX ON ticket_messages (ticket_id);
CREATE TYPE attachable AS ENUM ('TicketMessage', 'Contact');
CREATE TABLE attachments (
  id uuid PRIMARY KEY, attachable_type attachable NOT NULL, attachable_id text NOT NULL, original_filename text, byte_size int
);
CREATE INDEX ON attachments (attachable_id);
CREATE TABLE tags (id int PRIMARY KEY, label varchar(40) NOT NULL);
CREATE TABLE ticket_tags (
  ticket_id bigint NOT NULL REFERENCES tickets (id), tag_id int NOT NULL REFERENCES tags (id), PRIMARY KEY (ticket_id, tag_id)
);
CREATE INDEX ON ticket_tags (tag_id);
CREATE TABLE login_history (
  id bigint PRIMARY KEY, contact_id uuid NOT NULL REFERENCES contacts (id), ip inet NOT NULL, user_agent text, succeeded boolean NOT NULL,
  at timestamptz NOT NULL
);
CREATE INDEX ON login_history (contact_id);
CREATE TABLE schema_migrations (version bigint PRIMARY KEY)
