-- SQLite, camelCase, no foreign keys at all
CREATE TABLE Member (
  memberId INTEGER PRIMARY KEY, loginName TEXT NOT NULL UNIQUE, emailAddress TEXT NOT NULL UNIQUE, realName TEXT, birthday TEXT, signature TEXT,
  avatarUrl TEXT, registrationIp TEXT, lastVisit INTEGER, postCount INTEGER NOT NULL DEFAULT 0, passwordHash TEXT NOT NULL, isModerator INTEGER NOT NULL DEFAULT 0,
  webSite TEXT, icqNumber TEXT
);
CREATE TABLE Board (boardId INTEGER PRIMARY KEY, boardTitle TEXT NOT NULL, sortOrder INTEGER);
CREATE TABLE Topic (
  topicId INTEGER PRIMARY KEY, boardId INTEGER NOT NULL, startedBy INTEGER NOT NULL, topicTitle TEXT NOT NULL, isSticky INTEGER, createdOn INTEGER
);
CREATE INDEX t1 ON Topic (startedBy);
CREATE TABLE Post (
  postId INTEGER PRIMARY KEY, topicId INTEGER NOT NULL, authorId INTEGER NOT NULL, inReplyTo INTEGER, messageText TEXT NOT NULL, posterIp TEXT, editedBy INTEGER,
  createdOn INTEGER
);
CREATE INDEX p1 ON Post (topicId);
CREATE INDEX p2 ON Post (authorId);
CREATE INDEX p3 ON Post (inReplyTo);
CREATE INDEX p4 ON Post (editedBy);
CREATE TABLE PrivateMessage (
  pmId INTEGER PRIMARY KEY, fromMemberId INTEGER NOT NULL, toMemberId INTEGER NOT NULL, subjectLine TEXT, content TEXT NOT NULL, readOn INTEGER
);
CREATE INDEX pm1 ON PrivateMessage (fromMemberId);
CREATE INDEX pm2 ON PrivateMessage (toMemberId);
CREATE TABLE MemberSession (sessionKey TEXT PRIMARY KEY, memberId INTEGER NOT NULL, ipAddr TEXT, browserAgent TEXT, expiresAt INTEGER);
CREATE INDEX s1 ON MemberSession (memberId);
CREATE TABLE Reaction (postId INTEGER NOT NULL, memberId INTEGER NOT NULL, emoji TEXT NOT NULL, PRIMARY KEY (postId, memberId));
CREATE INDEX r1 ON Reaction (memberId);
CREATE TABLE Ban (banId INTEGER PRIMARY KEY, bannedEmail TEXT, bannedIp TEXT, reason TEXT, imposedBy INTEGER NOT NULL)
