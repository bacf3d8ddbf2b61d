-- Written by tuner 0.1.0: a launch of two trials, then `tuner resume tiny --trials 4 --launcher none`.
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
INSERT INTO "studies" VALUES(1,'tiny');
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
INSERT INTO "trial_intermediate_values" VALUES(1,1,2,4.06504065040650406151e-04,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,2,2,0.0,'FINITE');
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
INSERT INTO "trial_params" VALUES(1,1,'loss',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["cross_entropy", "dice", "focal"]}}');
INSERT INTO "trial_params" VALUES(2,1,'train.lr',3.74103995918555806005e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(3,1,'loss.dice.smooth',1.35925259598870380207e-06,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(4,1,'loss.dice.squared',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [false, true]}}');
INSERT INTO "trial_params" VALUES(5,1,'loss.dice.batch',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [true, false]}}');
INSERT INTO "trial_params" VALUES(6,1,'loss.dice.include_background',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [true, false]}}');
INSERT INTO "trial_params" VALUES(7,1,'loss.dice.classes',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["present", "all"]}}');
INSERT INTO "trial_params" VALUES(8,2,'loss',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["cross_entropy", "dice", "focal"]}}');
INSERT INTO "trial_params" VALUES(9,2,'train.lr',1.63810367108565037297e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(10,2,'loss.focal.gamma',2.66460321462635363332e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 5.0, "log": false}}');
INSERT INTO "trial_params" VALUES(11,2,'loss.focal.class_weight_exponent',6.7882884802785570244e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
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
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'loss','"dice"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'worker','"5ec44752d797"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'loss','"focal"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'worker','"5ec44752d797"');
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
INSERT INTO "trial_values" VALUES(1,1,0,4.06504065040650406151e-04,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.0,'FINITE');
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
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-28 19:46:19.033000','2026-11-28 19:46:37.170000');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-28 19:46:37.236000','2026-11-28 19:46:38.648000');
INSERT INTO "trials" VALUES(3,2,1,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(4,3,1,'WAITING',NULL,NULL);
CREATE TABLE tuner_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tuner_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tuner_alembic_version" VALUES('0002');
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
	prune_requested BOOLEAN NOT NULL, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE, 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id) ON DELETE CASCADE, 
	CONSTRAINT tuner_attempts_number UNIQUE (study_id, number), 
	CONSTRAINT tuner_attempts_slot UNIQUE (study_id, slot, attempt)
);
INSERT INTO "tuner_attempts" VALUES(1,1,0,0,1,NULL,NULL,0,2,0,'dice','{"loss": "dice", "train.lr": 0.003741039959185558, "loss.dice.smooth": 1.3592525959887038e-06, "loss.dice.squared": true, "loss.dice.batch": true, "loss.dice.include_background": false, "loss.dice.classes": "all"}',1,1,NULL,'35ec45c4003243928775c4df3a559d03','5ec44752d797',1.79589517903500342369e+09,1.79589519717298603052e+09,3,NULL,NULL,4.06504065040650406151e-04,'[0.0004065040650406504]','{"memory": -1.0, "finite": -1.0}',2,4.06504065040650406151e-04,2,0);
INSERT INTO "tuner_attempts" VALUES(2,1,1,1,1,NULL,NULL,0,2,0,'focal','{"loss": "focal", "train.lr": 0.016381036710856504, "loss.focal.gamma": 2.6646032146263536, "loss.focal.class_weight_exponent": 0.6788288480278557}',1,1,NULL,'73323c23562548c79a9f11c3e75a43bf','5ec44752d797',1.79589519723599100112e+09,1.79589519867400383952e+09,6,NULL,NULL,0.0,'[0.0]','{"memory": -1.0, "finite": -1.0}',2,0.0,1,0);
INSERT INTO "tuner_attempts" VALUES(3,1,2,2,1,NULL,NULL,0,2,0,NULL,'{}',1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "tuner_attempts" VALUES(4,1,3,3,1,NULL,NULL,0,2,0,NULL,'{}',1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
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
INSERT INTO "tuner_epochs" VALUES(1,1,1,1,'dice',0,0.0,0.0,'{"dice": 0.0, "iou": 0.0, "hd95": 439.0922949492805, "assd": 424.80551377341055, "surface_dice": 0.0}','{"dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "iou": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "hd95": {"aorta": 130.55659587828657, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 106.0718754490822, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "assd": {"aorta": 62.11463240660548, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 60.21958951380443, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "surface_dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}}',9.47041988372802734375e-01,2.80577996938916832819e-03,1.11264708900034747784e+00,1795895196.423);
INSERT INTO "tuner_epochs" VALUES(2,1,1,2,'dice',0,4.06504065040650406151e-04,4.06504065040650406151e-04,'{"dice": 0.0004065040650406504, "iou": 0.00020358306188925082, "hd95": 449.1539363497228, "assd": 432.2970085568021, "surface_dice": 0.0004065040650406504}','{"dice": {"aorta": 0.0032520325203252032, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "iou": {"aorta": 0.0016286644951140066, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "hd95": {"aorta": 216.50784828039042, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 100.61375425051719, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "assd": {"aorta": 123.94457108529156, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 58.321609102250314, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "surface_dice": {"aorta": 0.0032520325203252032, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}}',9.34201419353485107421e-01,2.50602158979082499743e-04,4.39918178999505471438e-01,1.79589519714200639729e+09);
INSERT INTO "tuner_epochs" VALUES(3,2,1,1,'focal',0,0.0,0.0,'{"dice": 0.0, "iou": 0.0, "hd95": 546.0183147111458, "assd": 546.0183147111458, "surface_dice": 0.0}','{"dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "iou": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "hd95": {"aorta": 546.0183147111459, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 546.0183147111459, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "assd": {"aorta": 546.0183147111459, "gallbladder": 546.0183147111459, "left kidney": 546.0183147111459, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 546.0183147111459, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "surface_dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}}',1.19594670832157135009e-01,1.22857775331423786646e-02,4.95624840999880689196e-01,1.79589519804998779296e+09);
INSERT INTO "tuner_epochs" VALUES(4,2,1,2,'focal',0,0.0,0.0,'{"dice": 0.0, "iou": 0.0, "hd95": 501.58729369508956, "assd": 499.6626041703014, "surface_dice": 0.0}','{"dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "iou": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}, "hd95": {"aorta": 546.0183147111459, "gallbladder": 546.0183147111459, "left kidney": 190.5701465826961, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 546.0183147111459, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "assd": {"aorta": 546.0183147111459, "gallbladder": 546.0183147111459, "left kidney": 175.17263038439043, "right kidney": 546.0183147111459, "liver": 546.0183147111459, "pancreas": 546.0183147111459, "spleen": 546.0183147111459, "stomach": 546.0183147111459}, "surface_dice": {"aorta": 0.0, "gallbladder": 0.0, "left kidney": 0.0, "right kidney": 0.0, "liver": 0.0, "pancreas": 0.0, "spleen": 0.0, "stomach": 0.0}}',9.70363542437553405761e-02,1.0973213894646431047e-03,4.41114950999690336175e-01,1.7958951986460015773e+09);
CREATE TABLE tuner_notices (
	study_id INTEGER NOT NULL, 
	event VARCHAR(16) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	taken_at FLOAT NOT NULL, 
	sent_at FLOAT, 
	PRIMARY KEY (study_id, event, subject), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
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
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (study_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id) ON DELETE CASCADE
);
INSERT INTO "tuner_studies" VALUES(1,'tiny','e4976bd0966d49c9bf78f2637f6cd8b3','{"name": "tiny", "dataset": {"name": "phantom", "validation": 0.25, "size": 32, "cases": 4, "slices": 4, "dimensions": 2, "noise": 0.06, "contrast": 1.0, "bias": 0.08, "anatomy_seed": 0}, "model": {"name": "unet", "width": 4, "depth": 4, "norm": "batch", "dropout": 0.0, "upsampling": "transposed"}, "train": {"epochs": 2, "batch_size": 4, "optimizer": "adamw", "lr": 0.0003, "weight_decay": 0.0001, "momentum": 0.9, "schedule": "cosine", "warmup": 0.05, "clip_norm": 12.0, "precision": "float32", "augment": "default", "validate_every": 1, "seed": null, "threads": 1, "deterministic": false, "compile": false, "patch": null, "patches": 4, "foreground": 0.33, "overlap": 0.25, "entry": null}, "search": {"loss": ["cross_entropy", "dice", "focal"], "train.lr": {"low": 0.001, "high": 0.1, "log": true}}, "objectives": [{"metric": "dice"}], "sampler": {"name": "tpe", "startup_trials": 10, "candidates": 24}, "pruner": {"name": "median", "min_epochs": null, "min_trials": 10, "min_peers": 4}, "budget": {"trials": 2, "trials_per_loss": null, "timeout": null, "trial_timeout": null, "retries": 3}, "seed": 0}','[{"name": "loss", "kind": "categorical", "choices": ["cross_entropy", "dice", "focal"]}, {"name": "train.lr", "kind": "float", "low": 0.001, "high": 0.1, "log": true}, {"name": "loss.cross_entropy.class_weight_exponent", "kind": "float", "low": 0.0, "high": 1.0, "log": false, "when": {"loss": "cross_entropy"}}, {"name": "loss.cross_entropy.label_smoothing", "kind": "float", "low": 0.0, "high": 0.2, "log": false, "when": {"loss": "cross_entropy"}}, {"name": "loss.dice.smooth", "kind": "float", "low": 1e-06, "high": 1.0, "log": true, "when": {"loss": "dice"}}, {"name": "loss.dice.squared", "kind": "categorical", "choices": [false, true], "when": {"loss": "dice"}}, {"name": "loss.dice.batch", "kind": "categorical", "choices": [true, false], "when": {"loss": "dice"}}, {"name": "loss.dice.include_background", "kind": "categorical", "choices": [true, false], "when": {"loss": "dice"}}, {"name": "loss.dice.classes", "kind": "categorical", "choices": ["present", "all"], "when": {"loss": "dice"}}, {"name": "loss.focal.gamma", "kind": "float", "low": 0.0, "high": 5.0, "log": false, "when": {"loss": "focal"}}, {"name": "loss.focal.class_weight_exponent", "kind": "float", "low": 0.0, "high": 1.0, "log": false, "when": {"loss": "focal"}}]','[{"metric": "dice", "direction": "maximize"}]','{"workers": 1, "devices": "cpu", "workers_per_device": "1", "launcher": "none", "ray_address": null, "fingerprint": "23746d3b771adbf6e9ad492fde09cfcf6fe5d1c47ebde2e663019413d47f6b0e", "protocol": "share", "data_root": null}',0,NULL,4,3,NULL,3.78940207958221435551e+01,1.79589519792301201815e+09,1.79589516002899122234e+09,'run',NULL,NULL,2,8,'0.1.0',1.79589516002899122234e+09);
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
	left_at FLOAT, 
	PRIMARY KEY (worker_id)
);
INSERT INTO "tuner_workers" VALUES('5ec44752d797',1,'lab',31428,'00000000-0000-0000-0000-000000000000/pid:[4026531836]/660223','cpu','0.1.0','{"rss_mib": 413}',1.79589517631101894378e+09,1.7958951979220061302e+09,1.7958951987450151443e+09);
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
CREATE INDEX tuner_attempts_ranked ON tuner_attempts (study_id, branch, value, number) WHERE value IS NOT NULL;
CREATE INDEX tuner_attempts_value ON tuner_attempts (study_id, value) WHERE value IS NOT NULL;
CREATE INDEX tuner_attempts_waiting ON tuner_attempts (study_id, urgency, slot) WHERE claimed_at IS NULL;
CREATE INDEX tuner_epochs_newest ON tuner_epochs (study_id, id);
CREATE INDEX tuner_epochs_peers ON tuner_epochs (study_id, epoch, bracket, branch, best, trial_id);
COMMIT;
