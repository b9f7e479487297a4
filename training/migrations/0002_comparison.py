import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotate", "0004_checks_and_guidelines_versions"),
        ("training", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="PolicySummary",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "tag",
                    models.CharField(blank=True, help_text="Empty: all held-out prompts.", max_length=100),
                ),
                (
                    "responses",
                    models.PositiveIntegerField(
                        help_text="Held-out responses of the policy when it was made."
                    ),
                ),
                (
                    "last_score",
                    models.BigIntegerField(help_text="Id of the policy's newest score then; 0 without any."),
                ),
                ("values", models.JSONField()),
                ("made_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "verbose_name_plural": "policy summaries",
            },
        ),
        migrations.CreateModel(
            name="ResponseChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("slot", models.PositiveSmallIntegerField()),
                (
                    "share",
                    models.FloatField(help_text="Of words outside the longest common subsequence: 0 … 1."),
                ),
                ("earlier_words", models.PositiveIntegerField()),
                ("later_words", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Trial",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("messages", models.JSONField(help_text="The chat that was asked, ending with the user.")),
                (
                    "content_hash",
                    models.CharField(help_text="As of `Prompt`, to find the same chat.", max_length=64),
                ),
                ("sampling", models.JSONField(help_text="Every sampling parameter that was sent.")),
                (
                    "heartbeat_at",
                    models.DateTimeField(help_text="When the process that asks the engine was last alive."),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="TrialAnswer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("writing", "Writing"),
                            ("done", "Done"),
                            ("stopped", "Stopped"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                (
                    "note",
                    models.CharField(
                        blank=True, help_text="What it waits for, or why it failed.", max_length=500
                    ),
                ),
                ("text", models.TextField(blank=True)),
                ("prompt_token_ids", models.JSONField(default=list)),
                ("token_ids", models.JSONField(default=list)),
                ("logprobs", models.JSONField(default=list)),
                ("finish_reason", models.CharField(blank=True, max_length=20)),
                (
                    "seconds",
                    models.FloatField(blank=True, help_text="From its first token to its last.", null=True),
                ),
            ],
            options={
                "ordering": ["policy__number"],
            },
        ),
        migrations.AddField(
            model_name="policysummary",
            name="policy",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="summaries", to="training.policy"
            ),
        ),
        migrations.AddField(
            model_name="responsechange",
            name="earlier",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="training.policy"
            ),
        ),
        migrations.AddField(
            model_name="responsechange",
            name="later",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="training.policy"
            ),
        ),
        migrations.AddField(
            model_name="responsechange",
            name="prompt",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="annotate.prompt"
            ),
        ),
        migrations.AddField(
            model_name="trial",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="trial",
            name="study",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="trials", to="annotate.study"
            ),
        ),
        migrations.AddField(
            model_name="trialanswer",
            name="policy",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="training.policy"
            ),
        ),
        migrations.AddField(
            model_name="trialanswer",
            name="response",
            field=models.OneToOneField(
                blank=True,
                help_text="What the labelling queue got of it.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="annotate.response",
            ),
        ),
        migrations.AddField(
            model_name="trialanswer",
            name="trial",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="answers", to="training.trial"
            ),
        ),
        migrations.AddConstraint(
            model_name="policysummary",
            constraint=models.UniqueConstraint(
                fields=("policy", "tag"), name="one_summary_per_policy_and_tag"
            ),
        ),
        migrations.AddConstraint(
            model_name="responsechange",
            constraint=models.UniqueConstraint(
                fields=("earlier", "later", "slot", "prompt"),
                name="one_change_per_prompt_slot_and_two_policies",
            ),
        ),
        migrations.AddIndex(
            model_name="trial",
            index=models.Index(fields=["study", "-id"], name="training_trial_newest"),
        ),
        migrations.AddConstraint(
            model_name="trialanswer",
            constraint=models.UniqueConstraint(
                fields=("trial", "policy"), name="one_answer_per_trial_and_policy"
            ),
        ),
        migrations.AddIndex(
            model_name="sampledresponse",
            index=models.Index(
                fields=["policy", "slot", "prompt", "response"],
                condition=models.Q(("round__isnull", True)),
                name="heldout_responses_of_a_policy",
            ),
        ),
    ]
