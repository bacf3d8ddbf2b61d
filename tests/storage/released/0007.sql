BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'organs');
INSERT INTO "studies" VALUES(2,'organs/confirmation');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MAXIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["dice"]');
INSERT INTO "study_system_attributes" VALUES(2,2,'study:metric_names','["dice"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,2,0.3,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,2,2,0.5,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'loss',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["dice", "focal", "tversky"]}}');
INSERT INTO "trial_params" VALUES(2,1,'train.lr',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(3,1,'train.batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(4,1,'train.nesterov',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [true, false]}}');
INSERT INTO "trial_params" VALUES(5,1,'model.width',16.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 8, "high": 64}}');
INSERT INTO "trial_params" VALUES(6,1,'loss.focal.gamma',2.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 5.0, "log": false}}');
INSERT INTO "trial_params" VALUES(7,2,'loss',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["dice", "focal", "tversky"]}}');
INSERT INTO "trial_params" VALUES(8,2,'train.lr',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(9,2,'train.batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(10,2,'train.nesterov',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [true, false]}}');
INSERT INTO "trial_params" VALUES(11,2,'model.width',16.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 8, "high": 64}}');
INSERT INTO "trial_params" VALUES(12,2,'loss.focal.gamma',2.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 5.0, "log": false}}');
INSERT INTO "trial_params" VALUES(13,5,'configuration',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(14,5,'run',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(15,6,'configuration',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(16,6,'run',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(17,7,'configuration',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(18,7,'run',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(19,8,'configuration',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(20,8,'run',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(21,9,'configuration',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(22,9,'run',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(23,10,'configuration',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(24,10,'run',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
INSERT INTO "trial_params" VALUES(25,11,'configuration',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "focal (published)"]}}');
INSERT INTO "trial_params" VALUES(26,11,'run',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 1000}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'constraints:memory','-1.0');
INSERT INTO "trial_system_attributes" VALUES(2,1,'constraints:finite','-1.0');
INSERT INTO "trial_system_attributes" VALUES(3,2,'constraints:memory','-1.0');
INSERT INTO "trial_system_attributes" VALUES(4,2,'constraints:finite','-1.0');
INSERT INTO "trial_system_attributes" VALUES(5,5,'fixed_params','{"configuration": "focal", "run": 1}');
INSERT INTO "trial_system_attributes" VALUES(6,6,'fixed_params','{"configuration": "focal (published)", "run": 1}');
INSERT INTO "trial_system_attributes" VALUES(7,7,'fixed_params','{"configuration": "focal", "run": 2}');
INSERT INTO "trial_system_attributes" VALUES(8,8,'fixed_params','{"configuration": "focal (published)", "run": 2}');
INSERT INTO "trial_system_attributes" VALUES(9,9,'fixed_params','{"configuration": "focal", "run": 3}');
INSERT INTO "trial_system_attributes" VALUES(10,10,'fixed_params','{"configuration": "focal (published)", "run": 3}');
INSERT INTO "trial_system_attributes" VALUES(11,11,'fixed_params','{"configuration": "focal", "run": 4}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'loss','"focal"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'worker','"w1"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'loss','"focal"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'worker','"w1"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.3,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.5,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-24 16:05:05.941000','2026-11-24 16:05:06.108000');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-24 16:05:06.130000','2026-11-24 16:05:06.140000');
INSERT INTO "trials" VALUES(3,2,1,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(4,3,1,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(5,0,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(6,1,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(7,2,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(8,3,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(9,4,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(10,5,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(11,6,2,'WAITING',NULL,NULL);
CREATE TABLE tuner_activity (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	actor VARCHAR(100) NOT NULL, 
	study_id INTEGER, 
	study VARCHAR(100) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_activity" VALUES(1,1.79591194173901224132e+09,'cli:ada@node1',1,'organs','create','4 trials');
CREATE TABLE tuner_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tuner_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tuner_alembic_version" VALUES('0007');
CREATE TABLE tuner_annotations (
	study_id INTEGER NOT NULL, 
	slot INTEGER NOT NULL, 
	notes TEXT NOT NULL, 
	notes_revision INTEGER NOT NULL, 
	starred BOOLEAN NOT NULL, 
	PRIMARY KEY (study_id, slot), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_annotations" VALUES(1,-1,'The *first* try.',1,1);
INSERT INTO "tuner_annotations" VALUES(1,0,'',0,1);
CREATE TABLE tuner_attempts (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	slot INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	retry_of INTEGER, 
	successor INTEGER, 
	lost INTEGER NOT NULL, 
	urgency INTEGER NOT NULL, 
	alone BOOLEAN NOT NULL, 
	branch VARCHAR(128), 
	params JSON NOT NULL, 
	empty BOOLEAN NOT NULL, 
	filled BOOLEAN NOT NULL, 
	enqueue_token VARCHAR(32), 
	claim_token VARCHAR(32), 
	worker_id VARCHAR(32), 
	claimed_at FLOAT, 
	finished_at FLOAT, 
	finished_revision INTEGER, 
	reason VARCHAR(32), 
	message TEXT, 
	value FLOAT, 
	objective_values JSON, 
	feasible JSON, 
	last_epoch INTEGER, 
	last_value FLOAT, 
	best_epoch INTEGER, 
	prune_requested BOOLEAN NOT NULL, end_now BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE, 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id) ON DELETE CASCADE, 
	CONSTRAINT tuner_attempts_number UNIQUE (study_id, number), 
	CONSTRAINT tuner_attempts_slot UNIQUE (study_id, slot, attempt)
);
INSERT INTO "tuner_attempts" VALUES(1,1,0,0,1,NULL,NULL,0,2,0,'focal','{"loss": "focal", "train.lr": 0.001, "train.batch_size": 8, "train.nesterov": false, "model.width": 16, "loss.focal.gamma": 2.0}',1,1,NULL,'88dcf124ae4c451893de8f651482353e','w1',1.79553630594200038907e+09,1.7955363061189861298e+09,3,NULL,NULL,0.3,'[0.3]','{"memory": -1.0, "finite": -1.0}',2,0.3,2,0,0);
INSERT INTO "tuner_attempts" VALUES(2,1,1,1,1,NULL,NULL,0,2,0,'focal','{"loss": "focal", "train.lr": 0.001, "train.batch_size": 8, "train.nesterov": false, "model.width": 16, "loss.focal.gamma": 2.0}',1,1,NULL,'f971909efd604acfb962caef48dd9053','w1',1795536306.13001,1.7955363061409935951e+09,6,NULL,NULL,0.5,'[0.5]','{"memory": -1.0, "finite": -1.0}',2,0.5,2,0,0);
INSERT INTO "tuner_attempts" VALUES(3,1,2,2,1,NULL,NULL,0,2,0,NULL,'{}',1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(4,1,3,3,1,NULL,NULL,0,2,0,NULL,'{}',1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(5,2,0,0,1,NULL,NULL,0,2,0,'focal','{"configuration": "focal", "run": 1}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(6,2,1,1,1,NULL,NULL,0,2,0,'focal (published)','{"configuration": "focal (published)", "run": 1}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(7,2,2,2,1,NULL,NULL,0,2,0,'focal','{"configuration": "focal", "run": 2}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(8,2,3,3,1,NULL,NULL,0,2,0,'focal (published)','{"configuration": "focal (published)", "run": 2}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(9,2,4,4,1,NULL,NULL,0,2,0,'focal','{"configuration": "focal", "run": 3}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(10,2,5,5,1,NULL,NULL,0,2,0,'focal (published)','{"configuration": "focal (published)", "run": 3}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
INSERT INTO "tuner_attempts" VALUES(11,2,6,6,1,NULL,NULL,0,2,0,'focal','{"configuration": "focal", "run": 4}',0,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0);
CREATE TABLE tuner_epochs (
	id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	branch VARCHAR(128), 
	bracket INTEGER, 
	value FLOAT, 
	best FLOAT, 
	metrics JSON NOT NULL, 
	per_class JSON NOT NULL, 
	train_loss FLOAT, 
	lr FLOAT, 
	seconds FLOAT, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE, 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id) ON DELETE CASCADE, 
	CONSTRAINT tuner_epochs_epoch UNIQUE (trial_id, epoch)
);
INSERT INTO "tuner_epochs" VALUES(1,1,1,1,'focal',0,0.15,0.15,'{"dice": 0.15, "hd95": 30.0}','{"dice": {"liver": 0.15, "aorta": null}}',1.0,0.001,0.5,1.79553630610498476029e+09);
INSERT INTO "tuner_epochs" VALUES(2,1,1,2,'focal',0,0.3,0.3,'{"dice": 0.3, "hd95": 3.0}','{"dice": {"liver": 0.3, "aorta": null}}',0.5,0.001,0.5,1.7955363061069965362e+09);
INSERT INTO "tuner_epochs" VALUES(3,2,1,1,'focal',0,0.25,0.25,'{"dice": 0.25, "hd95": 50.0}','{"dice": {"liver": 0.25, "aorta": null}}',1.0,0.001,0.5,1.79553630613101577757e+09);
INSERT INTO "tuner_epochs" VALUES(4,2,1,2,'focal',0,0.5,0.5,'{"dice": 0.5, "hd95": 5.0}','{"dice": {"liver": 0.5, "aorta": null}}',0.5,0.001,0.5,1.79553630613101577757e+09);
CREATE TABLE tuner_looks (
	study_id INTEGER NOT NULL, 
	look INTEGER NOT NULL, 
	runs INTEGER NOT NULL, 
	level FLOAT NOT NULL, 
	configurations JSON NOT NULL, 
	pairs INTEGER NOT NULL, 
	planned_at FLOAT NOT NULL, 
	PRIMARY KEY (study_id, look), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_looks" VALUES(2,1,3,0.025,'["focal", "focal (published)"]',1,1770000000.0);
CREATE TABLE tuner_notices (
	study_id INTEGER NOT NULL, 
	event VARCHAR(16) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	taken_at FLOAT NOT NULL, 
	sent_at FLOAT, 
	PRIMARY KEY (study_id, event, subject), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_notices" VALUES(1,'new_best','0',1.79554435721001768113e+09,1.795544357243008852e+09);
CREATE TABLE tuner_scores (
	study_id INTEGER NOT NULL, 
	metric TEXT NOT NULL, 
	label TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	branch TEXT NOT NULL, 
	value FLOAT NOT NULL, 
	PRIMARY KEY (study_id, metric, label, number, branch, value), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "tuner_scores" VALUES(1,'dice','',0,'focal',0.3);
INSERT INTO "tuner_scores" VALUES(1,'dice','',1,'focal',0.5);
INSERT INTO "tuner_scores" VALUES(1,'dice','liver',0,'focal',0.3);
INSERT INTO "tuner_scores" VALUES(1,'dice','liver',1,'focal',0.5);
INSERT INTO "tuner_scores" VALUES(1,'hd95','',0,'focal',3.0);
INSERT INTO "tuner_scores" VALUES(1,'hd95','',1,'focal',5.0);
CREATE TABLE tuner_studies (
	study_id INTEGER NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	identity VARCHAR(32) NOT NULL, 
	spec JSON NOT NULL, 
	space JSON NOT NULL, 
	objectives JSON NOT NULL, 
	resources JSON NOT NULL, 
	seed INTEGER NOT NULL, 
	loss VARCHAR(128), 
	total INTEGER NOT NULL, 
	retries INTEGER NOT NULL, 
	timeout_s FLOAT, 
	spent_s FLOAT NOT NULL, 
	spent_at FLOAT NOT NULL, 
	alive_since FLOAT NOT NULL, 
	wanted VARCHAR(8) NOT NULL, 
	wanted_reason VARCHAR(16), 
	message TEXT, 
	finished INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	version VARCHAR(32) NOT NULL, 
	created_at FLOAT NOT NULL, marks_folder BOOLEAN DEFAULT 0 NOT NULL, parent VARCHAR(32), archived BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (study_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_studies" VALUES(1,'organs','4e9e169d179944089241e971881a7841','{"dataset": {"name": "phantom"}, "model": {"name": "unet"}}','[{"name": "loss", "kind": "categorical", "choices": ["dice", "focal", "tversky"]}, {"name": "train.lr", "kind": "float", "low": 1e-05, "high": 0.01, "log": true}, {"name": "train.batch_size", "kind": "categorical", "choices": [4, 8, 16]}, {"name": "train.nesterov", "kind": "categorical", "choices": [true, false]}, {"name": "model.width", "kind": "int", "low": 8, "high": 64, "log": true}, {"name": "loss.focal.gamma", "kind": "float", "low": 0.5, "high": 5.0, "log": false, "when": {"loss": "focal"}}, {"name": "loss.tversky.alpha", "kind": "float", "low": 0.1, "high": 0.9, "log": false, "when": {"loss": "tversky"}}]','[{"metric": "dice", "direction": "maximize"}]','{}',7,NULL,4,3,NULL,0.0,1.79553630590599179266e+09,1.79553630590599179266e+09,'run',NULL,NULL,2,9,'test',1.79553630590599179266e+09,0,NULL,0);
INSERT INTO "tuner_studies" VALUES(2,'organs/confirmation','d2473a7044c644dc99186fc6f5ab8611','{"dataset": {"name": "phantom"}, "model": {"name": "unet"}, "confirmation": {"seeds": 3}}','[{"name": "configuration", "kind": "categorical", "choices": ["focal", "focal (published)"]}, {"name": "run", "kind": "int", "low": 1, "high": 1000, "log": false}]','[{"metric": "dice", "direction": "maximize"}]','{}',7,NULL,7,3,NULL,0.0,1.79589377774000906939e+09,1.79589377774000906939e+09,'run',NULL,NULL,0,1,'test',1.79589377774000906939e+09,1,'4e9e169d179944089241e971881a7841',0);
CREATE TABLE tuner_tags (
	study_id INTEGER NOT NULL, 
	slot INTEGER NOT NULL, 
	tag VARCHAR(50) NOT NULL, 
	PRIMARY KEY (study_id, slot, tag), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_tags" VALUES(1,-1,'baseline');
INSERT INTO "tuner_tags" VALUES(1,0,'keep');
CREATE TABLE tuner_workers (
	worker_id VARCHAR(32) NOT NULL, 
	study_id INTEGER, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	process VARCHAR(128) NOT NULL, 
	device VARCHAR(64) NOT NULL, 
	version VARCHAR(32) NOT NULL, 
	progress JSON, 
	started_at FLOAT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	left_at FLOAT, aside_study_id INTEGER, aside_study VARCHAR(80), aside_why TEXT, gpu VARCHAR(64), 
	PRIMARY KEY (worker_id)
);
INSERT INTO "tuner_workers" VALUES('bad',1,'a',1,'','cuda:0','t',NULL,1795536300.0,1795536300.0,1795536300.0,1,'organs','its last 3 trials failed',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX tuner_attempts_counted ON tuner_attempts (study_id, successor, branch, reason, claimed_at, finished_at, number, trial_id);
CREATE INDEX tuner_attempts_finished ON tuner_attempts (study_id, finished_revision);
CREATE INDEX tuner_attempts_held ON tuner_attempts (study_id, worker_id) WHERE claimed_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX tuner_attempts_newest ON tuner_attempts (study_id, number) WHERE successor IS NULL;
CREATE INDEX tuner_attempts_waiting ON tuner_attempts (study_id, urgency, slot) WHERE claimed_at IS NULL;
CREATE INDEX tuner_epochs_newest ON tuner_epochs (study_id, id);
CREATE INDEX tuner_epochs_peers ON tuner_epochs (study_id, epoch, bracket, branch, best, trial_id);
CREATE INDEX tuner_workers_aside ON tuner_workers (left_at) WHERE aside_why IS NOT NULL;
CREATE INDEX tuner_studies_parent ON tuner_studies (parent);
CREATE INDEX tuner_activity_newest ON tuner_activity (study_id, id);
CREATE INDEX tuner_attempts_value ON tuner_attempts (study_id, value, number, branch) WHERE value IS NOT NULL;
COMMIT;
